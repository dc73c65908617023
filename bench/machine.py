"""What machine the figures are from."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import psutil

from bench.contenders import ROOT
from bench.servers import versions


def describe() -> dict[str, str]:
    """Processor, cores, memory, kernel, Python and servers; no name of the machine or of its user."""
    servers = versions()
    cores = len(os.sched_getaffinity(0))
    return {
        "processor": _processor(),
        "cores": str(cores),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "rabbitmq": servers.get("rabbitmq", "unknown"),
        "redis": servers.get("redis", "unknown"),
    }


def commit() -> str:
    """The commit under test, with ``+`` when the tree differs from it; empty outside a repository."""
    run = subprocess.run(
        ["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return run.stdout.strip()


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
