"""Reports the versions of turbo, Python and important packages, and the platform.

Used by ``turbo report`` and by remote control's ``report``. It must never connect to anything.
"""

from __future__ import annotations

import platform
import sys
from typing import Final

from turbo import __version__

_PACKAGES: Final = (
    "pika", "orjson", "psutil", "uvloop", "setproctitle", "click",
    "redis", "hiredis", "celery", "kombu", "billiard",
)  # fmt: skip


def describe() -> list[str]:
    """Return one line for each version, and one for the platform."""
    return [
        f"turbo {__version__}",
        f"python {platform.python_version()} ({sys.executable})",
        f"platform {platform.platform()} libc {' '.join(platform.libc_ver())}",
        *(f"{package} {_version(package)}" for package in _PACKAGES),
    ]


def _version(package: str) -> str:
    # Imported here because it loads slowly and every worker loads this module.
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
