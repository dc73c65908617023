"""Finds the servers that the tests need, and installs missing ones from the distribution.

On Debian and Ubuntu, as root or with a password-less sudo, the package is installed with apt-get without starting its
service. Elsewhere the run ends with the name of the missing package and the command that installs it: a test that needs
a server is never skipped.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

#: Debian package -> its main program, and directories besides PATH where distributions install it.
_PROGRAMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "rabbitmq-server": (
        "rabbitmq-server",
        ("/usr/lib/rabbitmq/bin", "/usr/local/sbin", "/opt/rabbitmq/sbin"),
    ),
    "redis-server": ("redis-server", ("/usr/bin", "/usr/local/bin")),
    "postgresql": ("postgres", tuple(f"/usr/lib/postgresql/{major}/bin" for major in range(18, 12, -1))),
    "mariadb-server": ("mariadbd", ("/usr/sbin", "/usr/local/sbin")),
    "curl": ("curl", ("/usr/bin", "/usr/local/bin")),
    "chromium-driver": ("chromedriver", ("/usr/bin",)),
    "memcached": ("memcached", ("/usr/bin", "/usr/local/bin")),
    "systemd": ("systemd-analyze", ("/usr/bin", "/bin")),
    "debootstrap": ("debootstrap", ("/usr/sbin",)),
}

#: Seconds to wait for another apt-get, which locks its files while it runs.
_LOCKED_S = 300


def find_program(package: str) -> Path | None:
    """Return the path of the package's main program, or None if it is not installed."""
    name, places = _PROGRAMS[package]
    for place in places:  # before PATH, where Debian's wrapper of RabbitMQ changes the user and the directory
        candidate = Path(place) / name
        if os.access(candidate, os.X_OK):
            return candidate
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    return Path(found) if found else None


@functools.cache
def require(package: str) -> Path:
    """Return the program of `package`; install the package if it is missing, or end the test run."""
    found = find_program(package)
    if found is None:
        _install(package)
        found = find_program(package)
    if found is None:
        pytest.exit(f"the tests need {_PROGRAMS[package][0]}, which the package {package} does not have", returncode=3)
    return found


def _install(package: str) -> None:
    prefix = _privilege()
    command = f"apt-get install -y --no-install-recommends {package}"
    if prefix is None or shutil.which("apt-get") is None:
        pytest.exit(
            f"the tests need the server {_PROGRAMS[package][0]}, which is not installed and which this user "
            f"cannot install. On Debian or Ubuntu: sudo {command}",
            returncode=3,
        )
    _apt(prefix, ["update"])
    with tempfile.TemporaryDirectory() as aside:
        guard = _forbid_services(prefix, Path(aside))
        try:
            _apt(prefix, command.split()[1:])
        finally:
            if guard is not None:
                subprocess.run([*prefix, "rm", "-f", str(guard)], check=True)


def _privilege() -> list[str] | None:
    if os.geteuid() == 0:
        return []
    if (
        shutil.which("sudo")
        and subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False).returncode == 0
    ):
        return ["sudo", "-n"]
    return None


def _forbid_services(prefix: list[str], aside: Path) -> Path | None:
    """Install a policy-rc.d that prevents the start of the package's service; return None if there is one."""
    guard = Path("/usr/sbin/policy-rc.d")
    if guard.exists():
        return None
    script = aside / "policy-rc.d"
    script.write_text("#!/bin/sh\nexit 101\n")
    subprocess.run([*prefix, "install", "-m", "755", str(script), str(guard)], check=True)
    return guard


def _apt(prefix: list[str], arguments: list[str]) -> None:
    """Run apt-get; repeat while another apt-get has locked its files. Ends the test run if it fails."""
    command = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "LC_ALL=C", "apt-get", "-q", *arguments]
    give_up = time.monotonic() + _LOCKED_S
    while True:
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode == 0:
            return
        if "Could not get lock" not in run.stderr or time.monotonic() > give_up:
            break
        time.sleep(1)
    tail = (run.stdout + run.stderr)[-1500:]
    pytest.exit(f"apt-get {' '.join(arguments)} failed ({run.returncode}):\n{tail}", returncode=3)
