"""What the command line tells beat.

Made by ``cli.beat``, passed on by ``hosting``.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BeatOptions:
    """Values that were given; None: the app's setting."""

    schedule_filename: str | None = None
    #: The name of a scheduler class.
    scheduler: str | None = None
    #: Seconds.
    max_interval: float | None = None
    #: Whether a worker has started this process.
    beside_worker: bool = False
    #: The queue that elects one of several beats; empty: there is no election.
    leader_queue: str = ""
