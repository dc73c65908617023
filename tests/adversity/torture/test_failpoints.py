"""Processes killed at every step that commits something: child, then master, with a second worker that finishes."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from tests.adversity.torture.load import QUEUE, Producer
from tests.harness.oracle import ORPHANS, Leftovers, Oracle, Trace
from tests.harness.processes import Stopwatch
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.worker import WorkerProcess

#: Tasks of each kind: enough for several deaths of every child at a site that kills at the NTH pass.
EACH = 60
CHILDREN = 2
NTH = 13
CHILD_SITES = (
    "ring.task.claimed",
    "ring.task.read",
    "ring.task.head_stored",
    "ring.task.started_stored",
    "ring.outcome.copied",
    "ring.outcome.before_tail",
    "ring.outcome.tail_stored",
    "ring.outcome.signalled",
    "child.started_sent",
    "child.body_done",
    "child.result_written",
)
#: A child killed here has not entered the body: another one runs the task, acknowledged or not.
BEFORE_THE_BODY = frozenset(CHILD_SITES[: CHILD_SITES.index("ring.task.started_stored") + 1]) | {"child.started_sent"}
MASTER_SITES = (
    "ring.task.copied",
    "ring.task.before_tokens",
    "ring.task.committed",
    "master.got",
    "master.dispatched",
    "master.result_stored",
    "master.followups_confirmed",
    "master.before_ack",
    "master.after_ack",
)
#: Messages that a worker here holds at most: its prefetch is fixed, at four for each child.
WINDOW = 4 * CHILDREN

Start = Callable[[str], WorkerProcess]


@pytest.fixture
def start(tmp_path: Path, vhost: str, redis_db: str, oracle: Oracle) -> Iterator[Start]:
    """Starts workers with the given failpoints, one after another."""
    with ExitStack() as stack:

        def run(failpoints: str) -> WorkerProcess:
            env = {
                "TORTURE_BROKER": vhost,
                "TORTURE_BACKEND": redis_db,
                "TURBO_FAILPOINTS": failpoints,
                **oracle.env,
            }
            options = ("-A", "tests.adversity.torture.tasks", f"-c{CHILDREN}", "-l", "critical", "--prefetch", "fixed")
            return stack.enter_context(WorkerProcess(*options, directory=tmp_path, env=env))

        yield run


@pytest.fixture
def sent(vhost: str) -> set[str]:
    """The ids of the load, all of it waiting in the queue: early, late, and parents that each send another."""
    producer = Producer(vhost)
    producer.send((f"{kind}-{n}", name, ()) for n in range(EACH) for kind, name in (("e", "early"), ("l", "late")))
    producer.send((f"p-{n}", "parent", (f"c-{n}",)) for n in range(EACH))
    producer.close()
    return {f"{kind}-{n}" for n in range(EACH) for kind in "elpc"}


@pytest.mark.parametrize("site", CHILD_SITES)
@pytest.mark.row("P3", "P16", "PL15", "PL17")
def test_a_child_killed_at_any_step(
    site: str,
    start: Start,
    sent: set[str],
    vhost: str,
    redis_db: str,
    rabbitmq: RabbitMQ,
    oracle: Oracle,
    leftovers: Leftovers,
) -> None:
    worker = start(f"{site}=kill9@{NTH}:child")
    rabbitmq.wait_queue(QUEUE, vhost, ready=0, unacked=0, timeout=120)
    oracle.wait_ids("end", {identifier for identifier in sent if identifier[0] in "lpc"})
    if site in BEFORE_THE_BODY:
        oracle.wait_ids("end", sent)
    _stop(worker, leftovers)
    documents = _documents(redis_db)
    lost = {identifier for identifier, error in documents.items() if error == "WorkerLostError"}
    oracle.check_nothing_vanished(sent, accounted=lost)
    oracle.check_started_once({identifier for identifier in sent if identifier[0] == "e"})
    deaths = len({trace.pid for trace in oracle.traces()})
    assert deaths > 3, "the failpoint killed hardly anybody"
    assert len(lost) <= deaths
    last = {trace.pid: trace.id for trace in oracle.traces("start")}
    repeats = _repeats(oracle)
    if site in BEFORE_THE_BODY:
        assert not repeats, "tasks ran twice whose child died before their body"
        assert not lost, "tasks failed whose child died before their body"
    if site == "child.result_written":
        assert not repeats, "tasks ran again whose outcome was in the ring"
        assert not lost, "tasks failed whose outcome was in the ring"
    for identifier, starts in repeats.items():
        if _sent_twice(identifier, repeats):
            continue
        assert all(last[trace.pid] == identifier for trace in starts[:-1]), f"{identifier} ran twice without a death"
    assert all(documents[f"p-{n}"] == f"c-{n}" for n in range(EACH)), "a result is missing"


@pytest.mark.parametrize("site", MASTER_SITES)
@pytest.mark.row("CN1", "CN5")
def test_the_master_killed_at_any_step(
    site: str,
    start: Start,
    sent: set[str],
    vhost: str,
    redis_db: str,
    rabbitmq: RabbitMQ,
    oracle: Oracle,
    leftovers: Leftovers,
) -> None:
    first = start(f"{site}=kill9@{NTH}:master")
    _await_death(first, leftovers)
    before = oracle.traces()
    second = start("")
    rabbitmq.wait_queue(QUEUE, vhost, ready=0, unacked=0)
    oracle.wait_ids("end", {identifier for identifier in sent if identifier[0] in "lpc"})
    _stop(second, leftovers)
    documents = _documents(redis_db)
    assert all(documents.get(f"p-{n}") == f"c-{n}" for n in range(EACH)), "a result is missing"
    # Early-acknowledged tasks that the dead children had begun are over; every other one has run.
    begun = {trace.id for trace in before if trace.event == "start"}
    # A child that has accepted an early one may be killed with the master before the body's first line.
    accepted = {name for name in sent if name[0] == "e"} - begun - set(oracle.ids("end"))
    assert len(accepted) <= CHILDREN, accepted
    oracle.check_nothing_vanished(sent, accounted={name for name in begun if name[0] == "e"} | accepted)
    order = [trace.id for trace in sorted(before, key=lambda trace: trace.mono_ns) if trace.event == "start"]
    pids = {trace.pid for trace in before}
    repeats = _repeats(oracle)
    for identifier, starts in repeats.items():
        if _sent_twice(identifier, repeats):
            continue
        assert [trace.pid in pids for trace in starts] == [True, False], f"{identifier}: {starts}"
        if identifier[0] == "e":
            # While its acknowledgement has not left, no later one has either, but for those of the turn that was under
            # way; and before acknowledgements arrive, the broker sends no more than a window holds.
            later = len(order) - 1 - order.index(identifier)
            assert later < 2 * WINDOW, f"{identifier} was not acknowledged while {later} others were started"


def _heard(vhost: str) -> set[str]:
    """The ids of tasks with a handler, all of them waiting in the queue."""
    names = {f"h-{n}" for n in range(2 * EACH)}
    producer = Producer(vhost)
    producer.send((name, "heard", ()) for name in names)
    producer.close()
    return names


@pytest.mark.row("HA3", "PL17")
def test_a_child_killed_between_its_stored_outcome_and_its_handlers(
    start: Start, vhost: str, redis_db: str, rabbitmq: RabbitMQ, oracle: Oracle, leftovers: Leftovers
) -> None:
    """What is stored stands, and its message does not come back although its task would run again when it is lost."""
    sent = _heard(vhost)
    worker = start(f"child.outcome_answered=kill9@{NTH}:child")
    rabbitmq.wait_queue(QUEUE, vhost, ready=0, unacked=0)
    _stop(worker, leftovers)
    oracle.check_started_once(sent)
    assert _documents(redis_db) == dict.fromkeys(sent, "done")
    unheard = sent - set(oracle.ids("heard"))
    assert unheard, "the failpoint killed nobody"
    assert len(unheard) <= len({trace.pid for trace in oracle.traces()})


@pytest.mark.row("HA3", "CN5")
def test_the_master_killed_when_an_outcome_is_stored_and_its_child_waits(
    start: Start, vhost: str, redis_db: str, rabbitmq: RabbitMQ, oracle: Oracle, leftovers: Leftovers
) -> None:
    sent = _heard(vhost)
    first = start(f"master.outcome_stored=kill9@{NTH}:master")
    _await_death(first, leftovers)
    before = {trace.pid for trace in oracle.traces()}
    second = start("")
    rabbitmq.wait_queue(QUEUE, vhost, ready=0, unacked=0)
    oracle.wait_ids("heard", sent)
    _stop(second, leftovers)
    assert _documents(redis_db) == dict.fromkeys(sent, "done")
    for starts in _repeats(oracle).values():
        assert [trace.pid in before for trace in starts] == [True, False]


def _await_death(worker: WorkerProcess, leftovers: Leftovers) -> None:
    """Wait until the master has killed itself and its children have ended, which may record more until then."""
    assert worker.wait() == -signal.SIGKILL
    died = Stopwatch()
    worker.wait_orphans()
    assert died.seconds < ORPHANS
    leftovers.check()


def _stop(worker: WorkerProcess, leftovers: Leftovers) -> None:
    leftovers.watch(worker.children())
    worker.terminate()
    assert worker.wait() == 0
    leftovers.check()


def _repeats(oracle: Oracle) -> dict[str, list[Trace]]:
    starts = oracle.traces("start")
    counts = Counter(trace.id for trace in starts)
    return {
        identifier: [trace for trace in starts if trace.id == identifier]
        for identifier, count in counts.items()
        if count > 1
    }


def _sent_twice(identifier: str, repeats: dict[str, list[Trace]]) -> bool:
    """Whether it is a child task of a parent that ran more than once."""
    return identifier[0] == "c" and "p" + identifier[1:] in repeats


def _documents(url: str) -> dict[str, str]:
    """Every stored document: id -> result, or the name of the exception."""
    with redis.Redis.from_url(url) as client:
        keys = list(client.scan_iter(match="celery-task-meta-*", count=1000))
        documents = [json.loads(text) for text in client.mget(keys)] if keys else []
    return {
        document["task_id"]: document["result"] if document["status"] == "SUCCESS" else document["result"]["exc_type"]
        for document in documents
    }
