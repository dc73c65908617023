"""The batches that the dispatcher hands out, each in one record.

A batch is several deliveries, which one child claims as a whole.

Runs in the master. ``master.delivery.batches`` makes them; the dispatcher, the outcomes and the death of a child use
the functions here. In the ready queue a batch is its first delivery, which holds the others as its ``followers``. Its
record has the number of the first; the others have the numbers behind that. The child reports each delivery by its own
number. While the record is with a child, the first is among the child's assigned deliveries and the others are among
its parked ones; when the first ends before the others begin, the next takes its place. It must never be claimed in
part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from turbo.policy.delivery_lifecycle import State
from turbo.ring import frames

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from turbo.master.children.child_process import ChildProcess
    from turbo.master.delivery.ledger import Delivery
    from turbo.master.delivery.time_limit_changes import TimeLimitChanges


def group(deliveries: list[Delivery]) -> Delivery:
    """Make one batch of these deliveries, in their order; return its first.

    There is at least one.
    """
    first, *followers = deliveries
    first.followers = followers
    first.follows = False
    for delivery in followers:
        delivery.follows = True
        delivery.followers = ()
    return first


def flat(batches: Iterable[Delivery]) -> list[Delivery]:
    """Return all deliveries of these batches and single deliveries, each on its own."""
    found: list[Delivery] = []
    for first in batches:
        found.append(first)
        if first.followers:
            found += _ungroup(first)
    return found


def split(batches: Iterable[Delivery], wanted: Collection[Delivery]) -> tuple[list[Delivery], list[Delivery]]:
    """Take the deliveries in ``wanted`` out of these batches.

    Return them, and the batches without them.
    """
    taken: list[Delivery] = []
    left: list[Delivery] = []
    for first in batches:
        members = [first, *_ungroup(first)] if first.followers else [first]
        others = [delivery for delivery in members if delivery not in wanted]
        taken += [delivery for delivery in members if delivery in wanted]
        if others:
            left.append(group(others) if len(others) > 1 else others[0])
    return taken, left


def stage(child: ChildProcess, first: Delivery, limits: TimeLimitChanges) -> int | None:
    """Write a delivery with its batch or its limits; return its number, None if full.

    Raises as the ring does.
    """
    if not first.followers:
        return child.link.stage(frames.TASK, limits.pack(first))
    first.followers = [delivery for delivery in first.followers if delivery.state is State.READY]
    members = [first, *first.followers]
    records = [limits.pack(delivery) for delivery in members]
    seq = child.link.stage(frames.BATCH, frames.pack_batch(records), len(members))
    if seq is None:
        return None
    for number, delivery in enumerate(first.followers, seq + 1):
        delivery.seq = number
        delivery.move(State.DISPATCHED)
        child.parked[number] = delivery
    for delivery in members:
        delivery.together = members
    return seq


def recall(child: ChildProcess, first: Delivery) -> None:
    """Take a batch's followers back from the child; they are READY again.

    The record of the batch was taken back.
    """
    first.together = ()
    for delivery in first.followers:
        del child.parked[delivery.seq]
        delivery.together = ()
        delivery.move(State.READY)


def promote(child: ChildProcess, first: Delivery) -> bool:
    """Put a batch's next delivery in the place of its first, which has ended.

    Return False if all have ended.
    """
    left = [delivery for delivery in first.followers if child.parked.get(delivery.seq) is delivery]
    first.followers = ()
    if not left:
        for delivery in first.together:
            delivery.together = ()
        return False
    seq = left[0].seq
    others = dict(child.assigned)
    child.assigned.clear()
    child.assigned[seq] = child.parked.pop(seq)
    child.assigned.update(others)
    group(left)
    return True


def dissolve(delivery: Delivery) -> None:
    """Make a delivery of a batch, which its child had claimed, a single one."""
    if delivery.together:
        delivery.followers = delivery.together = ()
        delivery.follows = False


def _ungroup(first: Delivery) -> list[Delivery]:
    followers = list(first.followers)
    first.followers = ()
    for delivery in followers:
        delivery.follows = False
    return followers
