"""Two live processes: order of stores, wakeups, full rings, signals, forks in a task, leaks, shortage."""

from __future__ import annotations

import os
import random
import resource
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from tests.harness.oracle import held_memory, named_memory
from tests.harness.processes import Stopwatch
from tests.process.ring.world import DONE, PATIENCE, TASK, echo, forked, readable, scaled
from turbo.ring.layout import (
    EXIT_DESCRIPTORS_LOST,
    EXIT_MASTER_GONE,
    EXIT_STRAY_FORK,
    W_OUTCOME_TAIL,
    RingDetached,
)
from turbo.ring.link import MasterLink

pytestmark = PATIENCE
COUNT = struct.Struct("<Q")


def test_litmus_tail_never_outruns_its_record():
    """The reader follows the tail word alone, without the eventfd's ordering: records must be whole."""
    records = scaled(60_000, 10_000_000)

    def writer(link):
        source = random.Random(1)
        for number in range(records):
            link.emit(TASK, number, [b"%d" % number, b"p" * source.randrange(90)])

    with forked(writer, outcome_capacity=1024) as child:
        expected = 0
        while expected < records:
            for _, seq, body in child.link._outcomes.drain_dead():
                assert seq == expected
                assert body.startswith(b"%d" % seq)
                expected += 1


@pytest.mark.parametrize("how", ["cast", "pack_into"])
def test_litmus_words(how):
    """A word stored through ``cast('Q')`` is never seen torn; ``pack_into`` shows zeros: teeth."""
    start, seconds = 1 << 60, scaled(2, 60)

    def writer(link):
        words, value = link._words, start
        raw = memoryview(link._mappings[2])
        while True:
            value += 1
            if how == "cast":
                words[W_OUTCOME_TAIL] = value
            else:
                COUNT.pack_into(raw, W_OUTCOME_TAIL * 8, value)

    with forked(writer) as child:
        words = child.link._words
        wait_until(lambda: words[W_OUTCOME_TAIL] >= start)
        deadline = time.monotonic() + (seconds if how == "cast" else 60)
        torn, last = 0, start
        while time.monotonic() < deadline and not (torn and how == "pack_into"):
            for _ in range(1000):
                value = words[W_OUTCOME_TAIL]
                torn += value < last
                last = max(last, value)
    assert (torn > 0) is (how == "pack_into")


def test_page_groups_are_never_seen_mixed():
    """Sequence, deadlines and start are read together or not at all, while bodies follow each other fast."""

    def bodies(link):
        seq = 0
        while True:
            seq += 1
            link.page.enter_body(seq, seq * 3, seq * 5, seq * 7)

    with forked(bodies) as child:
        page, seen = child.link.page, 0
        deadline = time.monotonic() + scaled(2, 60)
        while time.monotonic() < deadline:
            running = page.running()
            if running is not None:
                seen += 1
                seq = running.seq
                assert running.soft_deadline_ns == seq * 3
                assert running.hard_deadline_ns == seq * 5
                assert running.started_ns == seq * 7
    assert seen > 1000


def test_no_wakeup_is_lost():
    """One record at a time with random gaps, so that both sides sleep as often as they can."""
    source = random.Random(6)
    watch = Stopwatch()
    with forked(echo) as child:
        worst = 0.0
        for number in range(scaled(2_000, 200_000)):
            begin = time.perf_counter()
            child.publish(b"%d" % number)
            child.collect(number + 1)
            worst = max(worst, time.perf_counter() - begin)
            until = time.perf_counter_ns() + source.randrange(200_000)
            while time.perf_counter_ns() < until:
                pass
        assert child.link.behind() == 0
    assert worst < 1.0 + watch.stalled, "a wakeup came only with something else"


def test_full_task_ring_refuses_and_goes_on_in_order():
    with forked(echo, task_capacity=1024) as child:
        child.kill(signal.SIGSTOP)
        os.waitid(os.P_PIDFD, child.pidfd, os.WSTOPPED)
        accepted = 0
        while child.link.stage(TASK, [b"%d" % accepted * 20]) is not None:
            accepted += 1
        assert 0 < accepted < 1024 // 24
        for _ in range(1000):
            assert child.link.stage(TASK, [b"more" * 20]) is None
        child.link.commit()
        child.kill(signal.SIGCONT)
        child.collect(accepted)
        assert [seq for _, seq, _ in child.outcomes] == list(range(1, accepted + 1))
        assert child.publish(b"again") == [accepted + 1]
        child.collect(accepted + 1)


def test_full_outcome_ring_makes_the_child_wait_and_loses_nothing():
    def flood(link):
        for number in range(3000):
            # Unsignalled: a full ring must signal by itself what nobody has been told of.
            link.emit(TASK, number, [b"x" * 90])
        link.signal()
        link.emit(DONE, 3000, [b"y" * 5_000_000])
        link.wait()

    with forked(flood, outcome_capacity=1024) as child:
        child.collect(3001)
        assert [seq for _, seq, _ in child.outcomes] == list(range(3001))
        assert child.outcomes[-1][2] == b"y" * 5_000_000


def test_child_with_a_full_ring_ends_with_its_master():
    def flood(link):
        while True:
            link.emit(TASK, 1, [b"x" * 90])

    with forked(flood, outcome_capacity=1024) as child:
        assert readable(child.link.outcome_fd)
        child.let_go()
        assert child.reap() in (-signal.SIGKILL, EXIT_MASTER_GONE)


def test_big_bodies_of_128_mib_both_ways():
    size = 128 << 20

    def answer(link):
        while (record := link.claim()) is None:
            link.wait()
        _, seq, body = record
        assert len(body) == size
        link.emit(DONE, seq, [body[: size // 2], body[size // 2 :]])
        link.signal()
        link.wait()

    with forked(answer) as child:
        child.publish(b"k" * size)
        ((_, _, body),) = child.collect(1)
        assert len(body) == size
        assert body.count(b"k") == size


def test_threads_of_a_task_may_emit_together():
    each, threads = scaled(2_000, 200_000), 4

    def crowd(link):
        def speak(voice):
            for number in range(each):
                link.emit(TASK, voice, [b"%d" % number, b"." * (number % 700)])
                link.signal()

        speakers = [threading.Thread(target=speak, args=(voice,)) for voice in range(threads)]
        for speaker in speakers:
            speaker.start()
        for speaker in speakers:
            speaker.join()
        link.wait()

    with forked(crowd, outcome_capacity=4096) as child:
        child.collect(each * threads)
        for voice in range(threads):
            numbers = [int(body.rstrip(b".")) for _, seq, body in child.outcomes if seq == voice]
            assert numbers == list(range(each))


class Late(BaseException):
    """What the storm's handler raises."""


def test_signal_storm_loses_nothing():
    """A raising SIGUSR1 handler at about 1 kHz: it raises in bodies only, and no record is lost for it."""
    total = scaled(15_000, 1_000_000)

    def body_runner(link):
        state = {"running": 0, "interrupted": 0}

        def handler(_signum, _frame):
            if state["running"]:
                state["running"] = 0
                raise Late

        signal.signal(signal.SIGUSR1, handler)
        while True:
            record = link.claim()
            if record is None:
                link.wait()
                continue
            _, seq, body = record
            try:
                try:
                    state["running"] = seq
                    for _ in range(500):
                        pass
                finally:
                    state["running"] = 0
            except Late:
                state["interrupted"] += 1
            link.emit(DONE, seq, [body, b"%d" % state["interrupted"]])
            link.signal()

    with forked(body_runner) as child:
        storm_over = threading.Event()

        def storm() -> None:
            while not storm_over.wait(0.001):
                child.kill(signal.SIGUSR1)

        sent = 0
        thread = None
        while len(child.outcomes) < total:
            while sent < total and child.link.stage(TASK, [b"x"]) is not None:
                sent += 1
            child.link.commit()
            assert readable(child.link.outcome_fd)
            child.drain()
            if thread is None:
                # Only now has the child surely installed its handler.
                thread = threading.Thread(target=storm)
                thread.start()
        storm_over.set()
        thread.join()
        assert [seq for _, seq, _ in child.outcomes] == list(range(1, total + 1))
        assert int(child.outcomes[-1][2][1:]) > 0, "no body was ever interrupted: this shows nothing"


def test_process_forked_by_a_task_cannot_use_the_rings():
    def forker(link):
        while (record := link.claim()) is None:
            link.wait()
        _, seq, _ = record
        pid = os.fork()
        if pid == 0:
            try:
                link.page.hello(1)
                link.emit(DONE, seq, [b"from the grandchild"])
            except RingDetached:
                link.signal()
                # Coming back into the loop must end it.
                link.claim()
        _, status = os.waitpid(pid, 0)
        link.emit(DONE, seq, [b"%d" % os.waitstatus_to_exitcode(status)])
        link.signal()
        link.wait()

    with forked(forker) as child:
        child.publish(b"one", b"two")
        assert child.collect(1) == [(DONE, 1, b"%d" % EXIT_STRAY_FORK)]
        assert child.link.page.hello() == 0
        assert child.link.take_back() == 2


def test_grandchild_that_leaves_normally_does_not_crash():
    """Interpreter exit frees the mapping's object, whose range is not mapped there."""

    def forker(link):
        pid = os.fork()
        if pid == 0:
            del link
            sys.exit(9)
        _, status = os.waitpid(pid, 0)
        link.emit(DONE, 1, [b"%d" % os.waitstatus_to_exitcode(status)])
        link.signal()
        link.wait()

    with forked(forker) as child:
        # 70: the grandchild unwinds into the fork's last frame, which reports any uncaught exception so.
        assert child.collect(1)[0][2] == b"70"


def test_body_that_closes_our_descriptors_ends_the_child():
    def closer(link):
        os.close(link._token_fd)
        link.claim()

    with forked(closer) as child:
        assert child.reap() == EXIT_DESCRIPTORS_LOST


def test_nothing_leaks_over_many_lives():
    def snapshot() -> tuple[int, int, set[str]]:
        maps = Path("/proc/self/maps").read_text().count("memfd:turbo")
        return len(os.listdir("/proc/self/fd")), maps, named_memory() | held_memory(psutil.Process())

    def life() -> None:
        with forked(echo) as child:
            child.publish(b"a", b"b" * 100_000)
            child.collect(1)
            child.kill()
            child.reap()
            child.post_mortem()

    life()
    before = snapshot()
    for _ in range(scaled(60, 5_000)):
        life()
    assert snapshot() == before


SHORTAGE = """
import resource, sys
from turbo.ring.link import MasterLink, RingUnavailable
MasterLink(1).close()
resource.setrlimit(getattr(resource, sys.argv[1]), (int(sys.argv[2]),) * 2)
links = []
try:
    for _ in range(int(sys.argv[3])):
        links.append(MasterLink(1))
except RingUnavailable as error:
    print("refused:", error)
"""


@pytest.mark.parametrize(
    ("limit", "value", "tries"),
    [("RLIMIT_NOFILE", 40, 100), ("RLIMIT_FSIZE", 65536, 1), ("RLIMIT_AS", 1 << 29, 3000)],
)
def test_shortage_is_an_error_at_the_start(limit, value, tries):
    if limit == "RLIMIT_AS":
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        tries = min(tries, soft)
    ended = subprocess.run(
        [sys.executable, "-c", SHORTAGE, limit, str(value), str(tries)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("refused:"), ended.stdout


def test_rings_of_a_child_take_what_is_promised():
    link = MasterLink(1)
    sizes = [os.fstat(fd).st_size for fd in link.child_fds()[:3]]
    blocks = [os.fstat(fd).st_blocks * 512 for fd in link.child_fds()[:3]]
    assert sizes == blocks == [256 * 1024, 256 * 1024, 4096]
    link.close()


def wait_until(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
