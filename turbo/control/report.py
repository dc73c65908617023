"""Reports the versions of turbo, Python and important packages, and the platform.

Used by ``turbo report``, by remote control's ``report`` and by the banner. It must never connect to anything.
"""

from __future__ import annotations

import platform
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from typing import Final

from turbo import __version__
from turbo.protocol import table

_PACKAGES: Final = (
    "pika", "orjson", "psutil", "uvloop", "setproctitle", "click",
    "redis", "hiredis", "celery", "kombu", "billiard",
)  # fmt: skip


def describe() -> list[str]:
    """Return one line for each version, and one for the platform."""
    return [
        f"turbo {__version__}",
        f"build {build()}",
        f"python {platform.python_version()} ({sys.executable})",
        f"platform {platform.platform()} libc {' '.join(platform.libc_ver())}",
        *(f"{package} {_version(package)}" for package in _PACKAGES),
    ]


def build() -> str:
    """Return which build of turbo runs: "compiled" or "pure Python"."""
    # One library holds all compiled modules, so one module stands for all of them.
    return "compiled" if str(table.__file__).endswith(tuple(EXTENSION_SUFFIXES)) else "pure Python"


def _version(package: str) -> str:
    # Imported here because it loads slowly and every worker loads this module.
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
