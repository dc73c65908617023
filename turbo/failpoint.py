"""Failpoints: places where a test can kill, stop, delay or fail a process.

A test can kill a process exactly between two steps by setting an environment variable. Failpoints are next to every
step that commits something, in any process. They must cost nothing when unused: callers write
``if failpoint.ENABLED: failpoint.hit("site")``, and production never sets ``TURBO_FAILPOINTS``.

Syntax: ``site=action[@nth][:role]``, several separated by ``;``. Actions: ``kill9``, ``sigstop``, ``raise``,
``sleep(ms)``, ``exit(code)``, and ``errno(number)``, which raises that OSError. ``nth`` (default 1) is the pass of the
site in this process that acts. ``role`` limits the failpoint to processes that called :func:`set_role` with that name.
"""

from __future__ import annotations

import os
import re
import signal
import time
from dataclasses import dataclass

VARIABLE = "TURBO_FAILPOINTS"

#: Whether any failpoint is set. Read by callers, written by :func:`configure` only.
ENABLED = False

_POINT = re.compile(
    r"(?P<site>[\w.\-]+)=(?P<action>kill9|sigstop|raise|sleep|exit|errno)(\((?P<argument>\d+)\))?"
    r"(@(?P<nth>[1-9]\d*))?(:(?P<role>[\w\-]+))?"
)
_WITH_ARGUMENT = ("sleep", "exit", "errno")


class FailpointHit(Exception):
    """Raised by the action ``raise``."""


@dataclass(slots=True)
class _Point:
    action: str
    argument: int
    nth: int
    role: str | None
    passes: int = 0


class _State:
    """The failpoints and the role of this process. Written by this module only."""

    __slots__ = ("points", "role")

    def __init__(self) -> None:
        self.points: dict[str, list[_Point]] = {}
        self.role: str | None = None


_state = _State()


def configure(text: str) -> None:
    """Replace this process's failpoints by those in ``text``.

    The empty string removes all. Raises ValueError with the part that is not ``site=action[@nth][:role]``.
    """
    global ENABLED
    points: dict[str, list[_Point]] = {}
    for part in filter(None, (piece.strip() for piece in text.split(";"))):
        match = _POINT.fullmatch(part)
        if match is None or (match["action"] in _WITH_ARGUMENT) != (match["argument"] is not None):
            raise ValueError(f"{VARIABLE}: cannot understand {part!r}")
        point = _Point(match["action"], int(match["argument"] or 0), int(match["nth"] or 1), match["role"])
        points.setdefault(match["site"], []).append(point)
    _state.points = points
    ENABLED = bool(points)


def set_role(role: str) -> None:
    """Set this process's role (``master``, ``spawner``, ``child``); reset counts.

    Call after a fork.
    """
    _state.role = role
    for points in _state.points.values():
        for point in points:
            point.passes = 0


def hit(site: str) -> None:
    """Pass ``site`` once; act if a failpoint is set there for this role and pass."""
    due: list[_Point] = []
    for point in _state.points.get(site, ()):
        if point.role is not None and point.role != _state.role:
            continue
        # Count this pass in every point before acting, since an action may raise.
        point.passes += 1
        if point.passes == point.nth:
            due.append(point)
    for point in due:
        _act(site, point)


def _act(site: str, point: _Point) -> None:
    """Perform one action. ``kill9`` and ``exit`` do not return."""
    if point.action == "kill9":
        os.kill(os.getpid(), signal.SIGKILL)
    elif point.action == "sigstop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif point.action == "sleep":
        time.sleep(point.argument / 1000)
    elif point.action == "exit":
        os._exit(point.argument)
    elif point.action == "errno":
        raise OSError(point.argument, os.strerror(point.argument), site)
    else:
        raise FailpointHit(site)


configure(os.environ.get(VARIABLE, ""))
