"""The descriptors of a link and of its large bodies: none is left behind, whatever became of the bodies."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest

from turbo.ring import oversize
from turbo.ring.layout import RingCorrupt, check_capacity
from turbo.ring.link import ChildLink, MasterLink

BIG = b"x" * 100_000


def descriptors() -> int:
    """How many this process has open."""
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def links() -> Iterator[tuple[MasterLink, ChildLink]]:
    with contextlib.closing(MasterLink(1)) as master:
        child = ChildLink.attach(1, [os.dup(fd) for fd in master.child_fds()])
        master.close_child_fds()
        with contextlib.closing(child):
            yield master, child


def give(master: MasterLink, body: bytes) -> int:
    seq = master.stage(1, [body])
    assert seq is not None
    master.commit()
    return seq


def test_a_link_leaves_no_descriptor_behind() -> None:
    before = descriptors()
    master = MasterLink(1)
    handed = [os.dup(fd) for fd in master.child_fds()]
    tasks, outcomes, page, _, _, channel, _ = master.child_fds()
    master.close_child_fds()
    for fd in (tasks, outcomes, page, channel):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
    child = ChildLink.attach(1, handed)
    give(master, BIG)
    assert child.claim() is not None
    give(master, BIG)
    child.emit(2, 1, [BIG])
    child.signal()
    child.emit(2, 1, [BIG])
    child.close()
    assert len(master.drain()) == 1
    master.post_mortem()
    master.close()
    assert descriptors() == before


def test_reading_a_body_keeps_no_descriptor(links: tuple[MasterLink, ChildLink]) -> None:
    master, child = links
    master.release(give(master, BIG))
    assert child.claim() is not None
    before = descriptors()
    for _ in range(3):
        child.emit(2, 1, [BIG])
        child.signal()
        assert [body for _, _, body in master.drain()] == [BIG]
        master.release(give(master, BIG))
        assert child.claim() is not None
    assert descriptors() == before


def test_bodies_that_were_taken_back_are_closed_when_a_later_one_is_read(
    links: tuple[MasterLink, ChildLink],
) -> None:
    master, child = links
    for _ in range(3):
        assert give(master, BIG) == master.take_back()
    last = give(master, BIG)
    assert child.claim() == (1, last, BIG)
    assert child._inbox._waiting == {}


def test_an_idle_child_closes_the_bodies_that_were_taken_back(links: tuple[MasterLink, ChildLink]) -> None:
    master, child = links
    before = descriptors()
    for _ in range(3):
        assert give(master, BIG) == master.take_back()
    child.look()
    assert child._inbox._waiting == {}
    # The master keeps one file and its mapping, to use them again.
    assert descriptors() <= before + 2


def test_a_body_that_cannot_be_sent_keeps_no_descriptor(links: tuple[MasterLink, ChildLink]) -> None:
    master, _child = links
    while master.stage(1, [BIG]) is not None:
        master.take_back()
    before = descriptors()
    for size in (100_000, 5_000_000, 100_000, 5_000_000):
        assert master.stage(1, [b"x" * size]) is None
    assert descriptors() == before


def test_a_body_may_fill_its_file_exactly(links: tuple[MasterLink, ChildLink]) -> None:
    master, child = links
    body = b"x" * 2 * 64 * 1024
    assert child.claim() is None
    seq = give(master, body)
    assert os.fstat(master._bodies[seq].fd).st_size == len(body)
    assert child.claim() == (1, seq, body)


def test_a_ticket_that_comes_twice_is_corrupt_and_keeps_no_descriptor() -> None:
    before = descriptors()
    ours, theirs = oversize.make_pair()
    inbox = oversize.Inbox(theirs, oversize.SEALS_FROM_MASTER)
    fd = oversize.create([BIG], oversize.SEALS_FROM_MASTER)
    assert oversize.send(ours, 5, len(BIG), fd) and oversize.send(ours, 5, len(BIG), fd)
    with pytest.raises(RingCorrupt, match="ticket 5 came twice"):
        inbox.collect(1)
    inbox.close()
    os.close(fd)
    ours.close()
    theirs.close()
    assert descriptors() == before


@pytest.mark.parametrize(("capacity", "possible"), [
    (512, False), (1024, True), (1025, False), (3072, False), (2**30, True), (2**31, False), (0, False), (-1024, False),
])  # fmt: skip
def test_capacities_are_powers_of_two_within_bounds(capacity: int, possible: bool) -> None:
    if possible:
        assert check_capacity(capacity) == capacity
    else:
        with pytest.raises(ValueError, match="power of two"):
            check_capacity(capacity)
