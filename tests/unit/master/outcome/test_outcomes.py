"""Outcome records that are well formed and make no sense: they cost their child, and nobody else."""

from __future__ import annotations

import pytest

from turbo.master.children.child_process import ChildProcess
from turbo.master.delivery.ledger import Delivery
from turbo.master.outcome.outcomes import Outcomes
from turbo.policy.child_lifecycle import ChildState
from turbo.policy.delivery_lifecycle import State
from turbo.policy.settling import Ending, Verb
from turbo.ring import frames


class Nobody:
    """Takes every call."""

    def __getattr__(self, name: str) -> object:
        return lambda *_args, **_options: None


class Condemned(Nobody):
    """Remembers which children were condemned."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def child_corrupt(self, child: ChildProcess, reason: str) -> None:
        self.reasons.append(reason)


_DONE = frames.pack_done(Verb.ACK, Ending.SUCCESS, 0, 0, 1000, 0, b"")


@pytest.mark.parametrize(
    "records",
    [
        [(frames.STARTED, 1, frames.STARTED_LATE)] * 2,
        [(frames.STARTED, 2, frames.STARTED_LATE)],
        [(frames.DONE, 1, _DONE)] * 2,
        [(frames.DONE, 1, b"")],
        [(99, 1, b"")],
        [(frames.STARTED, 1, b"\xff")],
    ],
    ids=["started twice", "never given", "done twice", "empty", "unknown kind", "short"],
)
def test_the_child_is_condemned_and_nothing_is_raised(records: list[tuple[int, int, bytes]]) -> None:
    condemned = Condemned()
    outcomes = Outcomes(Nobody(), Nobody(), Nobody(), Nobody())  # type: ignore[arg-type]
    child = ChildProcess(1, 1, Nobody(), 0.0, condemned.child_corrupt)  # type: ignore[arg-type]
    child.state = ChildState.SERVING
    delivery = Delivery(1, "q", 1, b"", b"", b"")
    delivery.move(State.DISPATCHED)
    child.assigned[1] = delivery
    outcomes.take(child, records)
    assert len(condemned.reasons) == 1
