"""What master and spawner say to each other, as bytes and as values.

What: packing and parsing only. Place: between ``handle`` (master) and ``process`` (spawner), over one
SOCK_SEQPACKET pair, so that each message arrives whole with its descriptors. It never opens or sends
anything.

Request: ``epoch u32, index u32`` with the child's descriptors, or with ``index`` = ``KILL`` and none.
Reports: ``kind u8, epoch u32, pid i32, value i32``; the report of a new child carries its pidfd.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

REQUEST: Final = struct.Struct("<II")
REPORT: Final = struct.Struct("<BIii")
#: More than any request or report carries.
MAX_FDS: Final = 16

#: In a request's ``index``: don't make a child, kill that of ``epoch`` with its group.
KILL: Final = 0xFFFFFFFF

SPAWNED: Final = 1
EXITED: Final = 2
FAILED: Final = 3
READY: Final = 4


@dataclass(frozen=True, slots=True)
class Spawned:
    """A child exists. ``pidfd`` was opened before anybody could reap it, and is the receiver's to close."""

    epoch: int
    pid: int
    pidfd: int


@dataclass(frozen=True, slots=True)
class Exited:
    """A child is gone and reaped. ``status``: its exit code, or minus the number of the signal that ended
    it."""

    epoch: int
    pid: int
    status: int


@dataclass(frozen=True, slots=True)
class SpawnFailed:
    """No child could be made for this request; ``errno`` says why."""

    epoch: int
    errno: int


Report = Spawned | Exited | SpawnFailed


@dataclass(frozen=True, slots=True)
class ChildBoot:
    """What a new child is given: which incarnation it is, its slot, its link's descriptors, the lifeline."""

    epoch: int
    index: int
    fds: tuple[int, ...]
    lifeline_fd: int
