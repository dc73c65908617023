"""A missing server is installed where that is possible; elsewhere the run ends and says what to do."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.harness import packages


@pytest.fixture(autouse=True)
def _forgotten() -> Any:
    packages.require.cache_clear()
    yield
    packages.require.cache_clear()


def test_without_the_right_to_install_the_run_ends_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "find_program", lambda package: None)
    monkeypatch.setattr(packages, "_privilege", lambda: None)
    with pytest.raises(pytest.exit.Exception, match="rabbitmq-server.*sudo apt-get install") as caught:
        packages.require("rabbitmq-server")
    assert caught.value.returncode == 3


def test_apt_is_asked_once_and_the_service_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    found = iter([None, Path("/bin/true")])
    ran: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        ran.append(command)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(packages, "find_program", lambda package: next(found))
    monkeypatch.setattr(packages, "_privilege", lambda: ["sudo", "-n"])
    monkeypatch.setattr(packages.shutil, "which", lambda name, **_: f"/usr/bin/{name}")
    monkeypatch.setattr(packages.Path, "exists", lambda self: False)
    monkeypatch.setattr(packages.subprocess, "run", run)
    assert packages.require("redis-server") == Path("/bin/true")
    words = [" ".join(command) for command in ran]
    assert [word.split(" -q ")[-1] for word in words if "apt-get" in word] == [
        "update",
        "install -y --no-install-recommends redis-server",
    ]
    assert all("DEBIAN_FRONTEND=noninteractive" in word for word in words if "apt-get" in word)
    assert [("install -m 755" in word, "rm -f" in word) for word in words if "policy-rc.d" in word] == [
        (True, False),
        (False, True),
    ]


def test_an_installation_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "find_program", lambda package: None)
    monkeypatch.setattr(packages, "_privilege", list)
    monkeypatch.setattr(packages.shutil, "which", lambda name, **_: f"/usr/bin/{name}")
    monkeypatch.setattr(
        packages.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 100, "", "no network")
    )
    with pytest.raises(pytest.exit.Exception, match="no network"):
        packages.require("redis-server")


def test_another_apt_get_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    locked = "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 6212 (apt-get)"
    answers = iter([(100, locked), (0, ""), (0, "")])  # of `update`, of `update` again, of `install`
    found = iter([None, Path("/bin/true")])

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        code, error = next(answers) if "apt-get" in command else (0, "")
        return subprocess.CompletedProcess(command, code, "", error)

    monkeypatch.setattr(packages, "find_program", lambda package: next(found))
    monkeypatch.setattr(packages, "_privilege", list)
    monkeypatch.setattr(packages.shutil, "which", lambda name, **_: f"/usr/bin/{name}")
    monkeypatch.setattr(packages.subprocess, "run", run)
    monkeypatch.setattr(packages.time, "sleep", lambda seconds: None)
    assert packages.require("redis-server") == Path("/bin/true")
    assert next(answers, None) is None
