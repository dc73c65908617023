"""Whether this beat may send; every scheduler asks before each tick.

``beat.service`` asks, and a Celery app's scheduler.

``beat.leadership`` answers for one of several beats; :class:`SingleBeat` for a beat that takes part in no election.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from turbo.beat.runs import Runs
    from turbo.beat.stop_request import StopRequest


class Turn(Protocol):
    """The right to send."""

    @property
    def leads(self) -> bool:
        """Whether this beat sends, as far as it knows."""

    def wait(self, seconds: float) -> Runs | None:
        """Wait at most so long for the right to send.

        With it comes what the beat before this one has left. Returns None if it did not come, or if beat is to end.
        """

    def rest(self, seconds: float) -> bool:
        """Wait so long, or until the right is lost or beat is to end.

        Return whether it is to end.
        """

    def claim(self, runs: Runs) -> bool:
        """Leave ``runs`` to the beat that follows.

        False if the right was lost, and nothing may be sent.
        """

    def close(self) -> None:
        """Give the right up."""


class SingleBeat:
    """The turn of a beat that needs no other's leave."""

    def __init__(self, stop: StopRequest) -> None:
        self._stop = stop
        self._begun = False

    @property
    def leads(self) -> bool:
        """Whether it has begun."""
        return self._begun

    def wait(self, seconds: float) -> Runs | None:
        """Return no runs, at once."""
        self._begun = True
        return {}

    def rest(self, seconds: float) -> bool:
        """Wait so long, or until beat is to end; return whether it is."""
        return self._stop.wait(seconds)

    def claim(self, runs: Runs) -> bool:
        """Return True."""
        return True

    def close(self) -> None:
        """Do nothing."""
