"""Failpoints: named places where a test can kill, stop, delay or fail the process that passes them.

What: turns "kill -9 between the two stores" from a coin toss into a line of an environment variable. Place:
called beside every step that commits something, in any process. It must cost nothing when unused: callers
write ``if failpoint.ENABLED: failpoint.hit("site")``, and production never sets ``TURBO_FAILPOINTS``.

Syntax: ``site=action[@nth][:role]``, several joined by ``;``. Actions: ``kill9``, ``sigstop``, ``raise``,
``sleep(ms)``, ``exit(code)``, ``errno(number)``, which raises that OSError. ``nth`` counts the passes of that site
in this process, from 1; without it the first pass acts. ``role`` limits the point to processes that called
:func:`set_role` with that name.
"""

from __future__ import annotations

import os
import re
import signal
import time
from dataclasses import dataclass

VARIABLE = "TURBO_FAILPOINTS"

#: Whether any failpoint is set. Read inline by callers, written by :func:`configure` alone.
ENABLED = False

_POINT = re.compile(
    r"(?P<site>[\w.\-]+)=(?P<action>kill9|sigstop|raise|sleep|exit|errno)(\((?P<argument>\d+)\))?"
    r"(@(?P<nth>[1-9]\d*))?(:(?P<role>[\w\-]+))?"
)
_WITH_ARGUMENT = ("sleep", "exit", "errno")


class FailpointHit(Exception):
    """What the action ``raise`` raises."""


@dataclass(slots=True)
class _Point:
    action: str
    argument: int
    nth: int
    role: str | None
    passes: int = 0


class _State:
    """The failpoints of this process: one owner, this module."""

    __slots__ = ("points", "role")

    def __init__(self) -> None:
        self.points: dict[str, list[_Point]] = {}
        self.role: str | None = None


_state = _State()


def configure(text: str) -> None:
    """Replace this process's failpoints by those of ``text``; the empty string removes all.

    Raises ValueError naming the part that is not ``site=action[@nth][:role]``.
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
    """Say what this process is (``master``, ``spawner``, ``child``) and count anew; call it after a fork."""
    _state.role = role
    for points in _state.points.values():
        for point in points:
            point.passes = 0


def hit(site: str) -> None:
    """Pass ``site``: act if a failpoint is set there for this process and this pass."""
    due: list[_Point] = []
    for point in _state.points.get(site, ()):
        if point.role is not None and point.role != _state.role:
            continue
        # All of them count this pass, also when an earlier one raises.
        point.passes += 1
        if point.passes == point.nth:
            due.append(point)
    for point in due:
        _act(site, point)


def _act(site: str, point: _Point) -> None:
    """Carry out one action. ``kill9`` and ``exit`` don't return."""
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
