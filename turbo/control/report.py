"""What runs here: versions of turbo, of Python and of the packages that matter, and the platform.

Read by ``turbo report`` and by remote control's ``report``; looks at what is installed and connects to nothing.
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
    """One line for each."""
    return [
        f"turbo {__version__}",
        f"python {platform.python_version()} ({sys.executable})",
        f"platform {platform.platform()} libc {' '.join(platform.libc_ver())}",
        *(f"{package} {_version(package)}" for package in _PACKAGES),
    ]


def _version(package: str) -> str:
    # Slow to load, and every worker loads this module.
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
