"""Defines the messages between master and spawner.

Between ``handle`` (master) and ``process`` (spawner), which exchange them over one SOCK_SEQPACKET pair, so that each
message arrives complete with its descriptors. Layouts and values only: it must never open or send anything.

Request: ``epoch u32, index u32`` with the child's descriptors, or with ``index`` = ``KILL`` and none.
Report: ``kind u8, epoch u32, pid i32, value i32``; the report of a new child has its pidfd attached.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

REQUEST: Final = struct.Struct("<II")
REPORT: Final = struct.Struct("<BIii")
#: More descriptors than any request or report has.
MAX_FDS: Final = 16

#: In a request's ``index``: kill the child of ``epoch`` and its group, instead of starting one.
KILL: Final = 0xFFFFFFFF

SPAWNED: Final = 1
EXITED: Final = 2
FAILED: Final = 3
READY: Final = 4


@dataclass(frozen=True, slots=True)
class Spawned:
    """A child was started.

    ``pidfd`` was opened before anybody could reap it; the receiver closes it.
    """

    epoch: int
    pid: int
    pidfd: int


@dataclass(frozen=True, slots=True)
class Exited:
    """A child has ended and is reaped.

    ``status`` is its exit code, or minus the signal that ended it.
    """

    epoch: int
    pid: int
    status: int


@dataclass(frozen=True, slots=True)
class SpawnFailed:
    """A child could not be started; ``errno`` is the reason."""

    epoch: int
    errno: int


Report = Spawned | Exited | SpawnFailed


@dataclass(frozen=True, slots=True)
class ChildBoot:
    """What a new child gets: epoch, slot, the link's descriptors, lifeline."""

    epoch: int
    index: int
    fds: tuple[int, ...]
    lifeline_fd: int
