"""A drill: random commands to three workers with beats, under load, while workers are killed with their beats.

Half a minute here. The long form of `tox -e torture`, of 20 kills and 400 commands, takes 3 to 6 minutes.
"""

from __future__ import annotations

import os
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.adversity.lifecycle.conftest import READY, MakeWorker, wait_reachable
from tests.adversity.lifecycle.drilled import TICK
from tests.adversity.torture.load import QUEUE, Producer
from tests.harness.oracle import Leftovers, Oracle, check_queues_settled
from tests.harness.processes import Stopwatch
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.worker import WorkerProcess
from turbo import Turbo

TORTURE = os.environ.get("TURBO_TORTURE") == "1"
SEED = int(os.environ.get("TURBO_TORTURE_SEED") or random.randrange(1 << 32))
#: Workers killed, commands before each, and tasks of each kind and queue sent before each command.
KILLS, STEPS, EACH = (20, 20, 40) if TORTURE else (3, 8, 20)
#: A queue that is added and cancelled, and one that is paused and resumed.
MORE, PAUSED = "more", "paused"
QUEUES = (QUEUE, MORE, PAUSED)
#: The worker that is not autoscaled, its children at its start, and the options of all workers.
FIXED, CHILDREN = "c@here", 2
SIZES = {"a@here": ("--autoscale", "4,0"), "b@here": ("--autoscale", "3,1"), FIXED: ("-c", str(CHILDREN))}
#: A command that would take the last child is refused, and the worker prints the error with its traceback.
REFUSED = "Can't shrink pool. It has 1 children, and one must stay"
REFUSAL = re.compile(
    rf"^.*ERROR/MainProcess\] pidbox command error: ValueError.*{REFUSED}.*\nTraceback .*\n( .*\n)+"
    rf"ValueError: {REFUSED}$",
    re.MULTILINE,
)
#: Seconds before a kill in which a start may not have been acknowledged yet, and after it for its own processes to end.
DOUBT = 2.0
#: Children that a worker has at most, each with one task that has been acknowledged and has not started.
MOST = 8
#: Seconds without a tick, and the same around a kill, at which the next beat takes over and one tick may be lost.
GAP, GAP_AT_KILL = 6.0, 15.0


class Fleet:
    """The workers, and what was done to them."""

    def __init__(self, make: MakeWorker, broker: str, stack: ExitStack, leftovers: Leftovers) -> None:
        self._make, self._stack, self._leftovers = make, stack, leftovers
        self._chance = random.Random(SEED)
        self._client = stack.enter_context(Turbo("drill", broker=broker, set_as_current=False))
        self.running: dict[str, WorkerProcess] = {}
        self.ended: list[WorkerProcess] = []
        #: When workers were killed, by CLOCK_MONOTONIC in nanoseconds.
        self.kills: list[int] = []
        #: By CLOCK_MONOTONIC in nanoseconds: the seconds so far in which some process waited for a CPU.
        self.stalls: list[tuple[int, float]] = []
        self._watch = Stopwatch()
        #: Children of the worker that is not autoscaled, and how often it refused to have none.
        self.children, self.refusals = CHILDREN, 0
        for name in SIZES:
            self.start(name)
        for worker in self.running.values():
            worker.wait_for_line(READY)
        wait_reachable(self._client, *SIZES)

    def start(self, name: str) -> WorkerProcess:
        """Start a worker with its beat."""
        options = ("-n", name, "-Q", f"{QUEUE},{PAUSED}", "-B", "-s", f"runs-{name}", *SIZES[name])
        made = self._make(*options, "-A", "tests.adversity.lifecycle.drilled", env={"AUTOSCALE_KEEPALIVE": "0.3"})
        self.running[name] = self._stack.enter_context(made)
        return made

    def ask(self, node: str, command: str, **arguments: Any) -> dict[str, str]:
        """Send one command; return the reply."""
        replies = self._client.control.broadcast(command, arguments, [node], reply=True, timeout=60)
        assert replies, f"{node} did not answer {command}; seed {SEED}"
        reply: dict[str, str] = replies[0][node]
        return reply

    def change(self) -> None:
        """Send a random command to a random worker; it must be carried out."""
        chance = self._chance
        node = chance.choice(list(SIZES))
        if node == FIXED:
            sizes = [("pool_grow", {"n": 1}), ("pool_shrink", {"n": 1})]
        else:
            sizes = [("autoscale", {"max": chance.randint(1, 5), "min": chance.randint(0, 1)})] * 2
        kind = chance.choice(("early", "late"))
        commands: list[tuple[str, dict[str, Any]]] = [
            *sizes,
            ("add_consumer", {"queue": MORE}),
            ("cancel_consumer", {"queue": MORE}),
            ("pause", {"queue": PAUSED}),
            ("resume", {"queue": PAUSED}),
            ("rate_limit", {"task_name": kind, "rate_limit": chance.choice(("50/s", "200/s", 0))}),
            ("time_limit", {"task_name": kind, "soft": chance.choice((20, 30)), "hard": 60}),
            ("pool_restart", {}),
        ]
        command, arguments = chance.choice(commands)
        self.look()
        refused = command == "pool_shrink" and self.children == 1
        self.refusals += refused
        self.children += {"pool_grow": 1, "pool_shrink": -1}.get(command, 0) + refused
        reply = self.ask(node, command, **arguments)
        as_it_should = "ok" in reply if not refused else reply == {"error": repr(ValueError(REFUSED))}
        assert as_it_should, (command, arguments, reply, SEED)

    def kill(self) -> None:
        """Kill a random worker, which ends its children and its beat, and start it again."""
        name = self._chance.choice(list(SIZES))
        victim = self.running.pop(name)
        self.look()
        self._leftovers.watch(victim.children())
        self.kills.append(time.monotonic_ns())
        victim.kill()
        self.ended.append(victim)
        if name == FIXED:
            self.children = CHILDREN
        self.start(name).wait_for_line(READY)
        wait_reachable(self._client, name)

    def look(self) -> None:
        """Note how long processes have waited for a CPU."""
        self.stalls.append((time.monotonic_ns(), self._watch.stalled))

    def stalled(self, begin_ns: int, end_ns: int) -> float:
        """Return the seconds about this time in which some process waited for a CPU."""
        before = max((stalled for at, stalled in self.stalls if at <= begin_ns), default=0.0)
        return min((stalled for at, stalled in self.stalls if at >= end_ns), default=self._watch.stalled) - before

    def settle(self) -> None:
        """Have all workers consume from every queue, without rates."""
        for node in SIZES:
            self.ask(node, "add_consumer", queue=MORE)
            self.ask(node, "resume", queue=PAUSED)
            for kind in ("early", "late"):
                self.ask(node, "rate_limit", task_name=kind, rate_limit=0)

    def near_a_kill(self, at_ns: int) -> bool:
        """Return whether a worker was killed soon after this time, or just before."""
        return any(-0.5 <= (kill - at_ns) / 1e9 <= DOUBT for kill in self.kills)


@pytest.fixture
def fleet(make_worker: MakeWorker, leftovers: Leftovers, vhost: str) -> Iterator[Fleet]:
    """Return the running fleet."""
    with ExitStack() as stack:
        yield Fleet(make_worker, vhost, stack, leftovers)


@pytest.mark.timeout(2400 if TORTURE else 600)
@pytest.mark.row("PL20", "PL21", "RC19", "RC24", "RC25", "RC26", "RC28", "CL19")
def test_a_commanded_and_killed_fleet_loses_and_repeats_only_what_its_kills_explain(
    fleet: Fleet,
    oracle: Oracle,
    leftovers: Leftovers,
    rabbitmq: RabbitMQ,
    vhost: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sent: dict[str, list[str]] = {"early": [], "late": []}
    with ExitStack() as stack:
        producers = {name: Producer(vhost, name) for name in QUEUES}
        for producer in producers.values():
            stack.callback(producer.close)

        def load(step: int) -> None:
            for name, producer in producers.items():
                for kind, all_ids in sent.items():
                    ids = [f"{kind}-{name}-{step}-{number}" for number in range(EACH)]
                    producer.send((each, kind, ()) for each in ids)
                    all_ids += ids

        for kill in range(KILLS):
            for step in range(STEPS):
                load(kill * STEPS + step)
                fleet.change()
            load(KILLS * STEPS + kill)
            fleet.kill()
        fleet.settle()
    oracle.wait_ids("end", sent["late"], 120)
    check_queues_settled(rabbitmq, vhost, QUEUES, timeout=60)
    # Beat goes on after the last kill.
    ticks = len(set(oracle.ids("tick")))
    fleet.look()
    oracle.wait_count("tick", ticks + 2)
    fleet.look()
    for worker in fleet.running.values():
        worker.terminate()
    for worker in fleet.running.values():
        assert worker.wait() == 0
    starts = Counter(oracle.ids("start"))
    never, twice = sum(not starts[each] for each in sent["early"]), sum(count > 1 for count in starts.values())
    with capsys.disabled():
        print(
            f"\n{KILLS} workers killed among {KILLS * STEPS} commands (seed {SEED}): {len(starts)} tasks, "
            f"{never} never started, {twice} started twice, {len(set(oracle.ids('tick')))} ticks"
        )
    check_tasks(oracle, fleet, sent)
    check_ticks(oracle, fleet)
    check_queues_settled(rabbitmq, vhost, (MORE, PAUSED), consumers=0)
    check_outputs(fleet)
    leftovers.check()


def check_tasks(oracle: Oracle, fleet: Fleet, sent: dict[str, list[str]]) -> None:
    """Check that only kills made tasks run twice, or early-acknowledged ones not at all."""
    starts = oracle.traces("start")
    oracle.check_nothing_vanished(sent["late"])
    oracle.check_repeats_only({each.id for each in starts if fleet.near_a_kill(each.mono_ns)})
    counts = Counter(each.id for each in starts)
    lost = set(sent["early"]) - set(counts)
    assert len(lost) <= MOST * len(fleet.kills), f"{len(lost)} never started, such as {sorted(lost)[:5]}; seed {SEED}"
    ended = set(oracle.ids("end"))
    cut = {each.id for each in starts if each.id not in ended and not fleet.near_a_kill(each.mono_ns)}
    assert not cut, f"started and did not end, without a kill: {sorted(cut)[:5]}; seed {SEED}"


def check_outputs(fleet: Fleet) -> None:
    """Check that the workers printed no error but those of refused commands."""
    refusals = 0
    for worker in (*fleet.running.values(), *fleet.ended):
        rest, count = REFUSAL.subn("", worker.output)
        refusals += count
        trouble = re.search("(?s)(WorkerLost|Traceback|CRITICAL).{,2000}", rest)
        assert not trouble, f"{trouble[0]}\nseed {SEED}"
    assert refusals == fleet.refusals, SEED


def check_ticks(oracle: Oracle, fleet: Fleet) -> None:
    """Check that each due tick was sent once, but for one that a killed leader may have lost."""
    ticks = sorted({int(each) for each in oracle.ids("tick")})
    for first, before, after in zip([0, *ticks], ticks, ticks[1:], strict=False):
        seconds = (after - before) / 1e9
        # A tick that is sent late, since its leader or the broker was, is followed by one in time.
        once = seconds > TICK / 2 or after - first > 1.5e9 * TICK
        assert once, f"a tick was sent twice, within {seconds:.2f} s; seed {SEED}"
        killed = any(before - 1e9 <= kill <= after for kill in fleet.kills)
        most = (GAP_AT_KILL if killed else GAP) + fleet.stalled(before, after)
        assert seconds < most, f"no tick for {seconds:.2f} s; seed {SEED}"
