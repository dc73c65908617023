"""Defines the layout of the shared memory, and who writes which word.

Constants and structures only, beneath both rings, the control page and the link; both processes import it. It must
never read, write, open or wait.

One child process has three memfds: a task ring, an outcome ring (each exactly its capacity, a power of two, with data
from byte 0) and one control page that holds all cursors. Positions are 64-bit byte counts that only grow; the place of
a position in the ring is ``position & (capacity - 1)``. All words are little-endian.

A record starts at a multiple of 8: ``length u32, kind u32, sequence u64, epoch u32, crc32 u32, payload``. ``length``
counts header and payload without the padding to 8. The CRC covers the 20 bytes before it and the payload, and starts
from the low 32 bits of the record's position, so that bytes of an earlier lap at the same place are never valid. A
record never wraps: the rest at the ring's end becomes one padding word, ``length u32`` (the whole rest) and
``kind u32`` = ``PADDING``.
"""

from __future__ import annotations

import struct
from typing import Final

from turbo.exceptions import TurboError


class RingCorrupt(TurboError):
    """The shared memory violates the protocol; the child must be replaced."""


class RingUnavailable(TurboError):
    """There is no memory or no descriptor for a child's rings."""


class RingDetached(TurboError):
    """This process was forked by a task and may not write to the rings of its parent."""


#: Bytes of a record before its payload.
HEADER: Final = 24
#: The part of the header that the CRC covers.
CHECKED: Final = struct.Struct("<IIQI")
WHOLE: Final = struct.Struct("<IIQII")
CRC: Final = struct.Struct("<I")

#: Kind of the padding at the ring's end. Kinds of records are below ``OVERSIZE``.
PADDING: Final = 0xFFFFFFFF
#: Set in the kind of a record whose payload (ticket u64, size u64) names a body in a memfd of its own.
OVERSIZE: Final = 0x80000000
OVERSIZE_NOTE: Final = struct.Struct("<QQ")

MASK32: Final = 0xFFFFFFFF
DEFAULT_CAPACITY: Final = 256 * 1024
MIN_CAPACITY: Final = 1024
#: A payload longer than ``capacity // INLINE_SHARE - HEADER`` is sent as a memfd (Agrona has the same limit).
INLINE_SHARE: Final = 8
#: Longest body of an oversize record that a receiver accepts, in bytes.
OVERSIZE_LIMIT: Final = 1 << 30

#: One token: the bytes that a read of the semaphore eventfd returns.
ONE: Final = (1).to_bytes(8, "little")

PAGE_SIZE: Final = 4096
MAGIC: Final = 0x31_4F_42_52_55_54_01_00

# Words of the control page, as indices of 8 bytes. The groups of each writer are 128 bytes apart, two cache lines,
# because x86 fetches lines in pairs. The master initialises every word before the child exists; from the child's start
# on each word has only the writer named here.

#: Written once by the master at creation.
W_MAGIC: Final = 0
W_EPOCH: Final = 1
W_TASK_CAPACITY: Final = 2
W_OUTCOME_CAPACITY: Final = 3
#: Written by the master, read by the child after a claim: the end of the last record, so whether another follows.
W_TASK_TAIL: Final = 16
#: Written by the master, read by the child: up to where the outcome ring is free again.
W_OUTCOME_HEAD: Final = 32
#: Written by the master, read by the child's signal handler: the sequence whose soft limit has passed.
W_SOFT_NAMED: Final = 48
#: Written by the master, read by the child's signal handlers: 1 while a group signal is meant to end this child.
W_CONDEMNED: Final = 49
#: Written by the master, read by the child: nanoseconds in which the whole worker did not run, as far as known.
W_STOPPED: Final = 50
#: Written by the master, read by the child: 1 while task events are sent.
W_EVENTS: Final = 51
#: Written by the master, read by the child: 1 while the master looks for outcomes after each hand-over.
W_LOOKS: Final = 52
#: Written by the master, read by the child: oversize bodies with a lower ticket were read or taken back.
W_LIVE_TICKET: Final = 64
#: Written by the child, read by the master: end of the last record that was copied and checked.
W_TASK_HEAD: Final = 128
#: Written by the child, read by the master after the child's death: the last sequence it began to handle.
W_STARTED: Final = 129
#: Written by the child; read by the master to bound what it drains, and after the child's death.
W_OUTCOME_TAIL: Final = 144
#: Written by the child, read by the master's scan as one group: see ``control_page``.
W_RUN_SEQ: Final = 160
W_RUN_IN_BODY: Final = 161
W_RUN_SOFT: Final = 162
W_RUN_HARD: Final = 163
W_RUN_STARTED: Final = 164
#: Written by the child, read by the master after the child's death: the last record whose body was entered.
W_BEGUN: Final = 165
#: The same for coroutines, whose bodies are entered in the order of their sequences.
W_COROUTINE_BEGUN: Final = 166
#: Written by the child once it is initialised: its pid.
W_HELLO: Final = 176

#: Written by the master, read by the child: the answer to each question, in the place ``ticket % ANSWER_PLACES``.
#: An answer is ``ticket << 1 | yes``.
W_ANSWERS: Final = 192
ANSWER_PLACES: Final = 256

#: Exit codes of a child that cannot work. sysexits.h ends at 78; shells use 126 upwards.
EXIT_RING_CORRUPT: Final = 81
EXIT_DESCRIPTORS_LOST: Final = 82
EXIT_STRAY_FORK: Final = 83
EXIT_MASTER_GONE: Final = 77


def check_capacity(capacity: int) -> int:
    """Return ``capacity`` (bytes) if valid: a power of two, 1 KiB or more.

    Else ValueError.
    """
    if capacity < MIN_CAPACITY or capacity & (capacity - 1) or capacity > 1 << 30:
        raise ValueError(f"a ring's capacity must be a power of two, {MIN_CAPACITY} to 2**30, not {capacity}")
    return capacity


def inline_limit(capacity: int) -> int:
    """Longest payload in bytes that travels inside a ring of ``capacity`` bytes."""
    return capacity // INLINE_SHARE - HEADER
