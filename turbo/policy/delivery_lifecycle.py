"""The life of one delivery in the master, as a table.

``master.delivery.ledger`` keeps a delivery's state and moves it only along this table; anything else is a bug in the
master and raises. The table is what the property tests walk.

    READY      waiting in the master for a child
    HELD       waiting in the master: for its ETA, for the end of an earlier run, or to be published again
    DISPATCHED in a child's ring, not known to have started
    STARTED    the child reported that it accepted the task and is about to enter its body (it may have died since)
    FINISHING  the outcome is known; its publishes or its result are not confirmed yet
    SETTLED    acknowledged, rejected or requeued: the broker owns it again, or it is gone
    VOID       its connection was lost before it was settled: the broker has requeued it
    SUSPECT    as READY, but redelivered: one more death is recorded before a child gets it
"""

from __future__ import annotations

from enum import IntEnum, unique
from typing import Final


@unique
class State(IntEnum):
    """The states of a delivery."""

    READY = 0
    HELD = 1
    DISPATCHED = 2
    STARTED = 3
    FINISHING = 4
    SETTLED = 5
    VOID = 6
    SUSPECT = 7


class IllegalTransition(RuntimeError):
    """A transition that the table does not contain."""


#: From each state, the states it may move to.
TRANSITIONS: Final[tuple[frozenset[State], ...]] = (
    # READY: given to a child, held, answered without running (expired), handed back, or lost with its connection;
    # seen to have been delivered before
    frozenset({State.HELD, State.DISPATCHED, State.FINISHING, State.SETTLED, State.VOID, State.SUSPECT}),
    # HELD: due, expired or revoked in the meantime, handed back at shutdown, or lost
    frozenset({State.READY, State.FINISHING, State.SETTLED, State.VOID, State.SUSPECT}),
    # DISPATCHED: taken back, started, answered at once by the child (not a task it knows), lost
    frozenset({State.READY, State.STARTED, State.FINISHING, State.HELD, State.VOID}),
    # STARTED: reported or lost with its child; where the child died before it entered the body, READY again, or VOID if
    # the connection was lost in the meantime: the broker has it again
    frozenset({State.READY, State.FINISHING, State.VOID}),
    # FINISHING: settled, or found void when its result was stored
    frozenset({State.SETTLED, State.VOID}),
    frozenset(),
    frozenset(),
    # SUSPECT: as READY; READY once the death is recorded, or cannot be
    frozenset({State.READY, State.HELD, State.FINISHING, State.SETTLED, State.VOID}),
)


def check(old: State, new: State) -> State:
    """Return ``new`` if the table allows the step.

    Raise :class:`IllegalTransition` otherwise.
    """
    if new not in TRANSITIONS[old]:
        raise IllegalTransition(f"a delivery cannot go from {old.name} to {new.name}")
    return new
