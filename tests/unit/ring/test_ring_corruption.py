"""Whatever shared memory holds, a reader returns the record that was written or raises RingCorrupt."""

from __future__ import annotations

import array
import fcntl
import mmap
import os
import random
import socket

import pytest

from turbo.ring import oversize
from turbo.ring.layout import (
    HEADER,
    OVERSIZE,
    OVERSIZE_NOTE,
    W_OUTCOME_HEAD,
    W_OUTCOME_TAIL,
    W_TASK_HEAD,
    RingCorrupt,
)
from turbo.ring.master_link import MasterLink
from turbo.ring.outcome_ring import OutcomeConsumer, OutcomeProducer
from turbo.ring.task_ring import TaskConsumer, TaskProducer

CAPACITY = 1024
ROUNDS = 100_000 if os.environ.get("TURBO_TORTURE") else 5_000
BODY = b"twenty-one bytes long"


class Rings:
    """Both rings on private memory, as plain as they can be."""

    def __init__(self, origin: int = 0) -> None:
        self.page = memoryview(mmap.mmap(-1, 4096)).cast("Q")
        for word in (W_TASK_HEAD, W_OUTCOME_HEAD, W_OUTCOME_TAIL):
            self.page[word] = origin
        self.tasks, self.outcomes = mmap.mmap(-1, CAPACITY), mmap.mmap(-1, CAPACITY)
        self.token_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_SEMAPHORE)
        self.event_fd = os.eventfd(0, os.EFD_NONBLOCK)
        self.task_in = TaskProducer(self.tasks, self.page, self.token_fd, 1, origin)
        self.task_out = TaskConsumer(self.tasks, self.page, self.token_fd, 1)
        self.outcome_in = OutcomeProducer(self.outcomes, self.page, self.event_fd, 1)
        self.outcome_out = OutcomeConsumer(self.outcomes, self.page, self.event_fd, 1, origin)

    def __enter__(self) -> Rings:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.token_fd)
        os.close(self.event_fd)


@pytest.mark.parametrize("bit", range((HEADER + len(BODY)) * 8))
def test_every_flipped_bit_of_a_record_is_found(bit):
    with Rings() as rings:
        rings.task_in.stage(7, 1, BODY)
        rings.task_in.commit()
        rings.tasks[bit // 8] ^= 1 << bit % 8
        with pytest.raises(RingCorrupt):
            rings.task_out.claim()
        rings.outcome_in.emit(7, 1, BODY)
        rings.outcome_in.signal()
        rings.outcomes[bit // 8] ^= 1 << bit % 8
        with pytest.raises(RingCorrupt):
            rings.outcome_out.drain()
        assert rings.page[W_TASK_HEAD] == 0, "a bad record's space was given back"


@pytest.mark.parametrize("bit", range(64))
def test_every_flipped_bit_of_padding_is_found(bit):
    with Rings(origin=CAPACITY - 8) as rings:
        rings.task_in.stage(7, 1, BODY)
        rings.task_in.commit()
        rings.tasks[CAPACITY - 8 + bit // 8] ^= 1 << bit % 8
        with pytest.raises(RingCorrupt):
            rings.task_out.claim()
        rings.outcome_in.emit(7, 1, BODY)
        rings.outcome_in.signal()
        rings.outcomes[CAPACITY - 8 + bit // 8] ^= 1 << bit % 8
        with pytest.raises(RingCorrupt):
            rings.outcome_out.drain()


def test_garbage_raises_nothing_but_ring_corrupt():
    source = random.Random(20)
    accepted = 0
    for _ in range(ROUNDS):
        with Rings(origin=source.choice([0, 8, 992, 1016, 2**32 - 8, 2**63 - 8])) as rings:
            for _ in range(source.randrange(4)):
                rings.task_in.stage(1, rings.task_in.unreleased() + 1, source.randbytes(source.randrange(90)))
                rings.outcome_in.emit(1, 1, source.randbytes(source.randrange(90)))
            for memory in (rings.tasks, rings.outcomes):
                noise = source.randbytes(source.choice([1, 4, 8, 100, CAPACITY]))
                at = source.randrange(CAPACITY - len(noise) + 1)
                memory[at : at + len(noise)] = noise
            if source.random() < 0.3:
                rings.page[W_OUTCOME_TAIL] = source.choice([0, 3, source.getrandbits(64), source.getrandbits(10)])
            if source.random() < 0.3:
                rings.page[W_TASK_HEAD] = source.choice([3, source.getrandbits(64), source.getrandbits(10)])
            os.eventfd_write(rings.token_fd, 2)
            os.eventfd_write(rings.event_fd, source.choice([1, 3, 2**63]))
            for read in (
                rings.task_out.claim,
                rings.outcome_out.drain,
                rings.outcome_out.drain_dead,
                rings.task_in.take_back,
                lambda rings=rings: [rings.task_in.stage(1, 100 + seq, b"z" * 90) for seq in range(12)],
                rings.task_in.collect_dead,
            ):
                try:
                    accepted += bool(read())
                except RingCorrupt:
                    continue
    assert accepted, "nothing was ever accepted: this shows nothing"


def test_an_earlier_laps_record_is_not_valid_again():
    with Rings() as rings:
        for _ in range(CAPACITY // 64):
            rings.outcome_in.emit(1, 1, b"x" * 40)
            rings.outcome_in.signal()
            assert len(rings.outcome_out.drain()) == 1
        # The child claims one more record without having written it: an earlier lap's bytes are there.
        rings.page[W_OUTCOME_TAIL] += 64
        os.eventfd_write(rings.event_fd, 1)
        with pytest.raises(RingCorrupt, match="CRC"):
            rings.outcome_out.drain()


def test_a_signal_for_a_record_without_its_tail_is_found():
    with Rings() as rings:
        rings.outcome_in.emit(1, 1, b"there")
        tail = rings.page[W_OUTCOME_TAIL]
        rings.outcome_in.emit(1, 1, b"written, and its tail never stored")
        rings.page[W_OUTCOME_TAIL] = tail
        rings.outcome_in.signal()
        with pytest.raises(RingCorrupt, match="tail"):
            rings.outcome_out.drain()
        assert [body for _, _, body in rings.outcome_out.salvaged] == [b"there"]


def test_records_before_the_damage_stay_readable():
    master = MasterLink(1, outcome_capacity=CAPACITY)
    _, outcome_fd, page_fd, _, event_fd, _, _ = master.child_fds()
    memory = mmap.mmap(outcome_fd, CAPACITY)
    page = memoryview(mmap.mmap(page_fd, 4096)).cast("Q")
    producer = OutcomeProducer(memory, page, event_fd, 1)
    for body in (b"good", b"bad"):
        producer.emit(4, 1, body)
    producer.signal()
    memory[32 + HEADER] ^= 1
    with pytest.raises(RingCorrupt, match="CRC"):
        master.drain()
    found = master.post_mortem()
    assert found.outcomes == [(4, 1, b"good")]
    assert "CRC" in found.corrupt
    producer.close()
    master.close()


@pytest.mark.parametrize("head", [1, 8, 40, 2**63, 2**64 - 1])
def test_an_impossible_head_is_found_before_anything_is_overwritten(head):
    with Rings() as rings:
        for seq in range(1, 9):
            rings.task_in.stage(1, seq, b"x" * 100)
        rings.page[W_TASK_HEAD] = head
        with pytest.raises(RingCorrupt, match="head"):
            rings.task_in.stage(1, 9, b"x" * 100)


def test_a_ring_takes_exactly_its_capacity_and_more_when_the_child_has_read():
    largest = b"x" * 104
    with Rings() as rings:
        assert [rings.task_in.stage(1, seq, largest) for seq in range(1, 10)] == [True] * 8 + [False]
        rings.task_in.commit()
        rings.task_out.claim()
        assert rings.task_in.stage(1, 9, largest), "the head is at the end of a record that is not released"
        assert not rings.task_in.stage(1, 10, largest)
        assert [rings.outcome_in.emit(1, seq, largest) for seq in range(1, 10)] == [True] * 8 + [False]
        rings.outcome_in.signal()
        assert len(rings.outcome_out.drain()) == 8
        assert [rings.outcome_in.emit(1, seq, largest) for seq in range(1, 10)] == [True] * 8 + [False]


def test_a_ring_whose_records_were_all_claimed_is_empty():
    largest = b"x" * 104
    with Rings() as rings:
        for first in (1, 9):
            assert all(rings.task_in.stage(1, seq, largest) for seq in range(first, first + 8))
            rings.task_in.commit()
            for _ in range(8):
                rings.task_out.claim()


@pytest.mark.parametrize(("seq", "epoch"), [(4, 1), (5, 1), (6, 2)])
def test_a_whole_record_of_another_time_is_corrupt(seq, epoch):
    with Rings() as rings:
        rings.task_in.stage(1, 5, BODY)
        rings.task_in.commit()
        rings.task_out.claim()
        rings.task_in._epoch = epoch
        rings.task_in.stage(1, seq, BODY)
        rings.task_in.commit()
        with pytest.raises(RingCorrupt, match="after 5 of 1"):
            rings.task_out.claim()


def test_a_head_at_the_end_of_a_released_record_is_possible():
    largest = b"x" * 104
    with Rings() as rings:
        rings.task_in.stage(1, 1, largest)
        rings.task_in.commit()
        rings.task_out.claim()
        rings.task_in.release(1)
        assert [rings.task_in.stage(1, seq, largest) for seq in range(2, 11)] == [True] * 8 + [False]


def memfd(content: bytes, seals: int) -> int:
    fd = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    os.write(fd, content)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def pipe_end() -> int:
    read_fd, write_fd = os.pipe()
    os.close(write_fd)
    return read_fd


FULL = oversize.SEALS_FROM_CHILD
HOSTILE = {
    "never sent": (None, b"", (1, 4), "no body"),
    "lower ticket": (lambda: memfd(b"body", FULL), OVERSIZE_NOTE.pack(9, 4), (10, 4), "no body"),
    "unsealed": (lambda: memfd(b"body", fcntl.F_SEAL_GROW), OVERSIZE_NOTE.pack(1, 4), (1, 4), "not sealed"),
    "other size": (lambda: memfd(b"bodies", FULL), OVERSIZE_NOTE.pack(1, 4), (1, 4), "another size"),
    "other announcement": (lambda: memfd(b"body", FULL), OVERSIZE_NOTE.pack(1, 5), (1, 4), "announced"),
    "no memfd": (pipe_end, OVERSIZE_NOTE.pack(1, 4), (1, 4), "not a memfd"),
    "short note": (lambda: memfd(b"body", FULL), b"1", (1, 4), "message of 1 bytes"),
    "no descriptor": (None, OVERSIZE_NOTE.pack(1, 4), (1, 4), "0 descriptors"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_childs_bodies_are_only_ever_corrupt(case):
    make, note, (ticket, size), message = HOSTILE[case]
    master = MasterLink(1, outcome_capacity=CAPACITY)
    _, outcome_fd, page_fd, _, event_fd, channel_fd, _ = master.child_fds()
    producer = OutcomeProducer(
        mmap.mmap(outcome_fd, CAPACITY), memoryview(mmap.mmap(page_fd, 4096)).cast("Q"), event_fd, 1
    )
    channel = socket.socket(fileno=os.dup(channel_fd))
    fd = make() if make else -1
    if note:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))] if make else []
        channel.sendmsg([note], rights)
    producer.emit(4, 1, b"before")
    producer.emit(4 | OVERSIZE, 1, OVERSIZE_NOTE.pack(ticket, size))
    producer.signal()
    with pytest.raises(RingCorrupt, match=message):
        master.drain()
    assert master.post_mortem().outcomes == [(4, 1, b"before")]
    if make:
        os.close(fd)
    channel.close()
    producer.close()
    master.close()
