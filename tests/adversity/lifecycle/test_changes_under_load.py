"""Pools that grow and shrink, queues that come, go, pause and resume, and a worker that is killed, all under load."""

from __future__ import annotations

import random
import re
from contextlib import ExitStack
from typing import Any

import pytest

from tests.adversity.lifecycle.conftest import READY, MakeWorker, wait_reachable
from tests.adversity.torture.load import QUEUE, Producer
from tests.harness.oracle import Leftovers, Oracle, check_queues_settled
from tests.harness.rabbitmq import RabbitMQ
from turbo import Turbo

#: A queue that is added and cancelled, and one that is paused and resumed.
MORE, PAUSED = "more", "paused"
QUEUES = (QUEUE, MORE, PAUSED)
SCALED, SIZED = "scaled@here", "sized@here"
STEPS, EACH = 40, 40


class Control:
    """Sends random commands to both workers; every command must be carried out."""

    def __init__(self, broker: str, seed: int) -> None:
        self.app = Turbo("drill", broker=broker, set_as_current=False)
        self._random = random.Random(seed)

    def ask(self, node: str, command: str, **arguments: Any) -> dict[str, str]:
        """Send one command; return the reply."""
        replies = self.app.control.broadcast(command, arguments, [node], reply=True, timeout=60)
        assert replies, f"{node} did not answer {command}"
        reply: dict[str, str] = replies[0][node]
        return reply

    def step(self) -> None:
        """Change something of one of the workers."""
        choose = self._random
        node = choose.choice((SCALED, SIZED))
        size = {
            SCALED: ("autoscale", {"max": choose.randint(1, 5), "min": choose.randint(0, 1)}),
            SIZED: choose.choice((("pool_grow", {"n": choose.randint(1, 2)}), ("pool_shrink", {"n": 1}))),
        }[node]
        queues = [
            (command, {"queue": name})
            for name, commands in (
                (MORE, ("add_consumer", "cancel_consumer")),
                (PAUSED, ("pause", "resume")),
            )
            for command in commands
        ]
        command, arguments = choose.choice([size, size, *queues])
        reply = self.ask(node, command, **arguments)
        assert "ok" in reply or "Can't shrink pool" in reply["error"], (command, reply)

    def settle(self) -> None:
        """Have both workers consume from every queue."""
        for node in (SCALED, SIZED):
            self.ask(node, "add_consumer", queue=MORE)
            self.ask(node, "resume", queue=PAUSED)


@pytest.mark.timeout(600)
@pytest.mark.row("PL20", "PL21", "RC24", "RC26", "RC28")
def test_changes_under_load_lose_and_repeat_nothing(
    make_worker: MakeWorker, oracle: Oracle, leftovers: Leftovers, rabbitmq: RabbitMQ, vhost: str
) -> None:
    early: list[str] = []
    late: list[str] = []
    control = Control(vhost, seed=11)
    with ExitStack() as stack:
        producers = {name: Producer(vhost, name) for name in QUEUES}
        for producer in producers.values():
            stack.callback(producer.close)

        def load(step: int) -> None:
            for name, producer in producers.items():
                for kind, sent in (("early", early), ("late", late)):
                    ids = [f"{kind}-{name}-{step}-{number}" for number in range(EACH)]
                    producer.send((each, kind, ()) for each in ids)
                    sent += ids

        scaled = stack.enter_context(
            make_worker(
                "-n", SCALED, "-Q", f"{QUEUE},{PAUSED}", "--autoscale", "4,0", env={"AUTOSCALE_KEEPALIVE": "0.3"}
            )
        )
        sized = stack.enter_context(make_worker("-n", SIZED, "-Q", f"{QUEUE},{PAUSED}", "-c", "2"))
        for worker in (scaled, sized):
            worker.wait_for_line(READY)
        wait_reachable(control.app, SCALED, SIZED)
        control.settle()
        for step in range(STEPS):
            load(step)
            control.step()
        control.settle()
        oracle.wait_ids("end", early + late, 120)
        check_queues_settled(rabbitmq, vhost, QUEUES, timeout=120)
        # Nothing was killed yet: a change interrupts and repeats nothing.
        oracle.check_started_once(early + late)
        for worker in (scaled, sized):
            assert not re.search("WorkerLost|Traceback|CRITICAL", worker.output)

        before = len(late)
        load(STEPS)
        leftovers.watch(sized.children())
        sized.kill()
        for _ in range(10):
            reply = control.ask(SCALED, "pool_grow", n=1)
            assert "autoscale" in reply["error"]
            control.ask(SCALED, "pause", queue=PAUSED)
            control.ask(SCALED, "resume", queue=PAUSED)
        oracle.wait_ids("end", late, 120)
        check_queues_settled(rabbitmq, vhost, QUEUES, timeout=60)
        oracle.check_nothing_vanished(late)
        oracle.check_repeats_only({*late[before:], *early[-3 * EACH :]})
        scaled.terminate()
        assert scaled.wait() == 0
    control.app.close()
