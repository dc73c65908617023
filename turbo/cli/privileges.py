"""Runs the process as another user: ``--uid``, ``--gid``, ``--umask``.

First step of the worker's command, before any of the app's code runs and before any file is opened.
"""

from __future__ import annotations

import ctypes
import grp
import importlib
import os
import pwd
from typing import TYPE_CHECKING, Final

from turbo.exceptions import ImproperlyConfigured, SecurityError

if TYPE_CHECKING:
    from collections.abc import Mapping

_PR_SET_DUMPABLE: Final = 4
#: What a master imports only when it has forked, and an app when it has schedules.
_LATER: Final = ("turbo.worker.master_process", "turbo.native.hooks", "turbo.native.commands", "turbo.schedules")


def take(given: Mapping[str, str | None]) -> None:
    """Set the process's umask, group and user from the options.

    The user's groups are the new ones. Without ``gid`` the group is the user's own. Raises ImproperlyConfigured for an
    unknown name or a wrong mask, and SecurityError if the system refuses.
    """
    if given["umask"]:
        os.umask(_mask(given["umask"]))
    user = _user(given["uid"]) if given["uid"] else None
    group = _group(given["gid"]) if given["gid"] else None
    if user is None and group is None:
        return
    if group is None and user is not None:
        group = user.pw_gid
    try:
        _become(user, group)
    except PermissionError as error:
        raise SecurityError(f"--uid/--gid: only root may become another user or group: {error}") from error


def _become(user: pwd.struct_passwd | None, group: int | None) -> None:
    if group is not None and group != os.getegid():
        os.setgid(group)
    if user is None or user.pw_uid == os.geteuid():
        return
    # The order matters: another user may change neither the group nor the list of groups.
    os.initgroups(user.pw_name, os.getegid())
    os.setuid(user.pw_uid)
    # The kernel now hides this process's files under /proc from itself, where turbo reads what its children use.
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)


def import_for_later(given: Mapping[str, str | None]) -> None:
    """Import the master's modules now if the worker will run as another user.

    That user may be unable to read this Python's files, such as those below root's home.
    """
    if given["uid"] or given["gid"]:
        for name in _LATER:
            importlib.import_module(name)


def _mask(text: str) -> int:
    try:
        return int(text, 8)
    except ValueError:
        raise ImproperlyConfigured(f"--umask {text}: write an octal number, such as 022") from None


def _user(text: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(int(text)) if text.isdigit() else pwd.getpwnam(text)
    except KeyError:
        raise ImproperlyConfigured(f"--uid {text}: there is no such user") from None


def _group(text: str) -> int:
    try:
        return int(text) if text.isdigit() else grp.getgrnam(text).gr_gid
    except KeyError:
        raise ImproperlyConfigured(f"--gid {text}: there is no such group") from None
