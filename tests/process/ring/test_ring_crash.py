"""Deaths at every step that commits something: each record ends in exactly one place."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

from tests.process.ring.world import DONE, PATIENCE, STARTED, TASK, echo, forked, like_a_worker, readable, scaled
from turbo import failpoint
from turbo.ring.layout import EXIT_RING_CORRUPT
from turbo.ring.link import ChildLink, MasterLink
from turbo.spawner.forking import fork

pytestmark = PATIENCE

CHILD_SITES = [
    "ring.task.claimed", "ring.task.read", "ring.task.head_stored", "ring.task.started_stored",
    "ring.outcome.copied", "ring.outcome.before_tail", "ring.outcome.tail_stored", "ring.outcome.signalled",
]  # fmt: skip
#: Between a claim and this site the master cannot know that the child began.
NOT_YET_STARTED = {"ring.task.claimed", "ring.task.read", "ring.task.head_stored"}
MASTER_SITES = [
    "ring.task.copied", "ring.task.before_tokens", "ring.task.committed", "ring.task.token_taken_back",
]  # fmt: skip
BODIES = [b"%d" % number * (number % 60) for number in range(12)]


def account(seqs, child, found):
    """Check that every sequence ended in one place only; return those done."""
    done = [seq for kind, seq, _ in child.outcomes if kind == DONE]
    assert found.corrupt is None
    assert len(set(done)) == len(done), "an outcome came twice"
    claimed = [] if found.claimed is None else [found.claimed]
    assert sorted(done + claimed + found.unclaimed) == sorted(seqs), "a record was lost or is in two places"
    assert found.unclaimed == sorted(found.unclaimed)
    return done


@pytest.mark.parametrize("action", ["kill9", "exit(0)"])
@pytest.mark.parametrize("nth", [1, 2, 7])
@pytest.mark.parametrize("site", CHILD_SITES)
@pytest.mark.parametrize("main", [echo, like_a_worker])
def test_child_killed_at_each_step(site, nth, action, main):
    failpoints = f"{site}={action}@{nth}:child"
    with forked(main, failpoints=failpoints, task_capacity=2048, outcome_capacity=2048) as child:
        seqs = child.publish(*BODIES)
        assert child.reap() == (-signal.SIGKILL if action == "kill9" else 0)
        found = child.post_mortem()
        done = account(seqs, child, found)
        bodies = dict(zip(seqs, BODIES, strict=True))
        assert all(body == bodies[seq] for kind, seq, body in child.outcomes if kind == DONE)
        if site.startswith("ring.task"):
            assert found.claimed == nth
            assert found.started is (site not in NOT_YET_STARTED)
            assert len(done) == nth - 1
        for kind, seq, _ in child.outcomes:
            assert kind != STARTED or seq in done or (seq == found.claimed and found.started)


@pytest.mark.parametrize("main", [echo, like_a_worker])
def test_child_killed_after_sending_a_big_body(main):
    with forked(main, failpoints="ring.oversize.sent=kill9@2") as child:
        seqs = child.publish(b"x" * 200_000, b"y" * 200_000, b"z" * 200_000)
        assert child.reap() == -signal.SIGKILL
        found = child.post_mortem()
        assert account(seqs, child, found) == [1]
        assert found.claimed == 2
        assert found.started
        assert (DONE, 1, b"x" * 200_000) in child.outcomes


@pytest.mark.parametrize("nth", [1, 3])
@pytest.mark.parametrize("site", MASTER_SITES)
def test_master_killed_at_each_step_leaves_the_reader_whole_records_in_order(site, nth):
    link = MasterLink(1, task_capacity=2048)

    def master() -> None:
        failpoint.configure(f"{site}=kill9@{nth}")
        for number, body in enumerate(BODIES):
            link.stage(TASK, [body])
            link.commit()
            if number % 2:
                link.take_back()

    pid = fork(master)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    child = ChildLink.attach(1, [os.dup(fd) for fd in link.child_fds()])
    got = []
    while (record := child.claim()) is not None:
        got.append(record)
    kept = range(2 * nth) if site == "ring.task.token_taken_back" else range(nth - 1)
    expected = [number + 1 for number in kept if number % 2 == 0]
    if site == "ring.task.committed":
        expected.append(nth)
    assert got == [(TASK, seq, BODIES[seq - 1]) for seq in expected]
    child.close()
    link.close()


def test_kill_fuzz():
    """SIGKILL after a random moment at full load, again and again."""
    source = random.Random(int(os.environ.get("TURBO_SEED", "5")))
    places = {"done": 0, "claimed": 0, "unclaimed": 0, "taken back": 0}
    for _ in range(scaled(400, 100_000)):
        with forked(like_a_worker, task_capacity=4096, outcome_capacity=4096) as child:
            seqs: list[int] = []
            child.link.page.set_looks(source.random() < 0.5)
            deadline = time.perf_counter_ns() + source.randrange(3_000_000)
            while time.perf_counter_ns() < deadline:
                for _ in range(source.randrange(6)):
                    seq = child.link.stage(TASK, [source.randbytes(source.randrange(400))])
                    if seq is not None:
                        seqs.append(seq)
                child.link.commit()
                child.drain(early=source.random() < 0.5)
                for _ in range(source.randrange(4)):
                    seq = child.link.take_back()
                    if seq is None:
                        break
                    seqs.remove(seq)
                    places["taken back"] += 1
            child.kill()
            child.reap()
            found = child.post_mortem()
            places["done"] += len(account(seqs, child, found))
            places["claimed"] += found.claimed is not None
            places["unclaimed"] += len(found.unclaimed)
    assert all(places.values()), f"some place was never reached: {places}"


def test_corrupt_record_ends_the_child_and_the_task_goes_to_another():
    with forked(echo) as child:
        assert child.publish(b"first") == [1]
        child.collect(1)
        child.link.stage(TASK, [b"second"])
        offset = child.link._tasks._entries[-1][0]
        child.link._tasks._mapping[offset + 24] ^= 1
        child.link.commit()
        assert child.reap() == EXIT_RING_CORRUPT
        found = child.post_mortem()
        assert (found.claimed, found.started, found.unclaimed) == (2, False, [])
    with forked(echo, epoch=2) as heir:
        heir.publish(b"second")
        assert heir.collect(1) == [(DONE, 1, b"second")]


def test_frozen_child_keeps_only_what_it_claimed():
    with forked(echo, failpoints="ring.task.claimed=sigstop@1") as child:
        seqs = child.publish(*BODIES)
        stopped = os.waitid(os.P_PIDFD, child.pidfd, os.WSTOPPED)
        assert stopped.si_status == signal.SIGSTOP
        back = []
        while (seq := child.link.take_back()) is not None:
            back.append(seq)
        assert back == seqs[:0:-1]
        child.kill(signal.SIGCONT)
        assert child.collect(1) == [(DONE, 1, BODIES[0])]
        assert not readable(child.link.outcome_fd, 0.05)
