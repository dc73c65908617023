"""Measures the branch coverage of the pure folders by the unit tests, while all tests run.

`--coverage` measures only while a test of `tests/unit` runs, in each process of pytest-xdist; the run fails if the
total is below `fail_under` of `pyproject.toml`. Measuring starts before turbo is imported, so that the lines that run
at import count.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import coverage
import pytest

OPTION = "--coverage"
_ROOT = Path(__file__).resolve().parents[2]
_UNIT = _ROOT / "tests" / "unit"
#: The environment variable with the folder for the data of each process; set by the first process for pytest-xdist's.
_FOLDER = "TURBO_TEST_COVERAGE"


class UnitCoverage:
    """A pytest plugin that measures in this process; the first process adds up the total."""

    def __init__(self, folder: Path, *, first: bool) -> None:
        self._folder = folder
        self._first = first
        self._settings = str(_ROOT / "pyproject.toml")
        self._measured = coverage.Coverage(str(folder / "part"), data_suffix=True, config_file=self._settings)
        # A process may get no unit test.
        self._measured.set_option("run:disable_warnings", ["module-not-imported", "no-data-collected"])
        self._running = False
        self._report = ""
        self._run(True)

    def _run(self, wanted: bool) -> None:
        if wanted != self._running:
            (self._measured.start if wanted else self._measured.stop)()
            self._running = wanted

    def pytest_configure(self, config: pytest.Config) -> None:
        """Pass the folder to the processes of pytest-xdist, which then run all tests."""
        if self._first and config.option.numprocesses:
            self._run(False)
            os.environ[_FOLDER] = str(self._folder)

    def pytest_collection_finish(self) -> None:
        """Stop measuring after the imports; from here on only unit tests are measured."""
        self._run(False)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Measure while a unit test runs."""
        self._run(item.path.is_relative_to(_UNIT))
        return (yield)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Save the data; the first process adds up the total and fails the run if it is too low."""
        self._run(False)
        self._measured.save()
        if not self._first:
            return
        total = coverage.Coverage(str(self._folder / "part"), config_file=self._settings)
        total.combine([str(self._folder)])
        text = io.StringIO()
        percent, least = total.report(file=text), float(total.get_option("report:fail_under"))  # type: ignore[arg-type]
        shutil.rmtree(self._folder)
        self._report = text.getvalue()
        if percent < least:
            self._report += f"FAILED: {percent:.1f} % are covered by unit tests, {least:g} % must be\n"
            if session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the total."""
        if self._report:
            terminalreporter.section("coverage by unit tests")
            terminalreporter.write(self._report)


def begin() -> UnitCoverage | None:
    """Start measuring this process with `--coverage`; call it before turbo is imported."""
    if _FOLDER in os.environ:  # a process of pytest-xdist; pop, so that its own children do not measure
        return UnitCoverage(Path(os.environ.pop(_FOLDER)), first=False)
    if OPTION not in sys.argv:
        return None
    return UnitCoverage(Path(tempfile.mkdtemp(prefix="turbo-coverage-")), first=True)
