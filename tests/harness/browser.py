"""Chromium without a window, driven as a person would: opens pages, reads what they show, clicks and types."""

from __future__ import annotations

import contextlib
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from selenium.common.exceptions import ElementClickInterceptedException, StaleElementReferenceException
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from tests.harness.processes import PATIENCE, wait_until

#: Nothing is fetched but the pages, and it runs as root.
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1280,900",
    "--hide-scrollbars",
)  # fmt: skip


class Browser:
    """One window. Waits for what a page shall show."""

    def __init__(self, driver: Chrome) -> None:
        self._driver = driver

    def open(self, url: str) -> None:
        """Open a page."""
        self._driver.get(url)

    def click(self, selector: str) -> None:
        """Click the element, once it is shown and nothing covers it."""

        def clicked() -> bool:
            element = self._shown(selector)
            self._driver.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
            try:
                element.click()
            except (ElementClickInterceptedException, StaleElementReferenceException):
                return False  # a message covers it, or the page is changing
            return True

        wait_until(f"{selector} can be clicked", clicked, PATIENCE)

    def fill(self, selector: str, text: str) -> None:
        """Type into a field, instead of what it contains."""
        field = self._shown(selector)
        field.clear()
        field.send_keys(text)

    def text(self, selector: str) -> str:
        """Return what the first such element shows; "" if there is none, or it is hidden."""
        with contextlib.suppress(StaleElementReferenceException):  # the page has replaced it meanwhile
            for element in self._driver.find_elements(By.CSS_SELECTOR, selector):
                return element.text
        return ""

    def wait_text(self, selector: str, text: str) -> None:
        """Wait until the element shows this text, perhaps among other."""
        wait_until(f"{selector} shows {text!r}", lambda: text in self.text(selector), PATIENCE)

    def rows(self, selector: str) -> list[list[str]]:
        """Return the texts of the shown cells of a table, by row."""
        found: list[list[str]] = self._driver.execute_script(
            "return [...document.querySelectorAll(arguments[0] + ' tr')].filter(row => row.offsetParent)"
            ".map(row => [...row.cells].map(cell => cell.innerText.trim()))",
            selector,
        )
        return found

    def pairs(self, selector: str) -> dict[str, str]:
        """Return a shown table of two columns."""
        return {row[0]: row[1] for row in self.rows(selector) if len(row) == 2}

    def errors(self) -> list[str]:
        """Return the errors of the pages' scripts and requests since the last call."""
        log: list[dict[str, Any]] = self._driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in log if entry["level"] == "SEVERE"]

    def picture(self, file: Path, height: int) -> None:
        """Write a PNG of the upper part of the page."""
        self._driver.set_window_size(1280, height)
        self._driver.save_screenshot(str(file))

    def _shown(self, selector: str) -> WebElement:
        found: list[WebElement] = []

        def shown() -> bool:
            with contextlib.suppress(StaleElementReferenceException):
                found[:] = [
                    each for each in self._driver.find_elements(By.CSS_SELECTOR, selector) if each.is_displayed()
                ]
            return bool(found)

        wait_until(f"{selector} is shown", shown, PATIENCE)
        return found[0]


@contextlib.contextmanager
def browser(chromedriver: Path, profile: Path) -> Iterator[Browser]:
    """Run Chromium with an empty profile in this directory."""
    options = ChromeOptions()
    for flag in (*_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=ChromeService(executable_path=str(chromedriver)))
    try:
        yield Browser(driver)
    finally:
        driver.quit()


def quoted(text: str) -> str:
    """Return text for the path of an URL."""
    return urllib.parse.quote(text, safe="@")
