"""Several beats of one app: one sends, and when it dies another goes on with the last runs that it left."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pika
import pytest

from tests.harness.processes import wait_until
from tests.harness.rabbitmq import RabbitMQ, vhost_of
from tests.harness.worker import WorkerProcess

BEAT = (sys.executable, "-m", "turbo", "beat")
#: The argument of a tick is the time of its run, from which the next is counted: it may be sent somewhat later.
NATIVE = """
from turbo import Turbo
from turbo.beat import BeatLazyFunc
from turbo.schedules import schedule

class Noting(schedule):
    def now(self):
        Noting.latest = super().now()
        return Noting.latest

def run_time():
    return Noting.latest.timestamp()

app = Turbo("shop")
app.conf.task_routes = {"*": "ticks"}
tick = {"task": "shop.tick", "schedule": Noting(1.0), "args": [BeatLazyFunc(run_time)]}
app.conf.beat_schedule = {"each second": tick}
"""
ADOPTED = NATIVE.replace("turbo import Turbo", "celery import Celery as Turbo").replace("from turbo.", "from celery.")
#: The least between two runs; times are stored as text.
SECOND = 0.999
QUEUE = "celerybeat.shop.celery"
LEADS = rf"beat: This beat sends from now on \(queue {QUEUE}\)"
SAID = re.compile("sends from now on|stops sending|cannot be elected|; waiting")
WAITS = rf"beat: Another beat sends for this app \(queue {QUEUE}\); waiting"


class Beats:
    """Beats with files of their own, as on machines of their own, and the ticks that they send."""

    def __init__(self, vhost: str, home: Path, app: str, stack: contextlib.ExitStack) -> None:
        self._vhost = vhost
        self.home = home
        self._stack = stack
        (home / "tasks.py").write_text(app)
        self.running: list[WorkerProcess] = []
        self.declare("ticks")
        #: The run of each tick.
        self.sent: list[float] = []
        self._count = 0

    def declare(self, queue: str) -> None:
        with pika.BlockingConnection(pika.URLParameters(self._vhost)) as connection:
            connection.channel().queue_declare(queue, durable=True)

    def start(self, *options: str, command: tuple[str, ...] = BEAT) -> WorkerProcess:
        self._count += 1
        arguments = ("-b", self._vhost, "-l", "info", *(options or ("-s", f"runs{self._count}")))
        beat = self._stack.enter_context(WorkerProcess(*arguments, directory=self.home, command=command))
        self.running.append(beat)
        return beat

    def leader(self) -> WorkerProcess:
        """Wait until one of them sends, by what each has said last."""
        found: list[WorkerProcess] = []

        def one_leads() -> bool:
            said = {beat: SAID.findall(beat.output) for beat in self.running}
            found[:] = [beat for beat, lines in said.items() if lines and lines[-1] == "sends from now on"]
            return len(found) == 1

        wait_until("one leader", one_leads, 60)
        return found[0]

    def end(self, beat: WorkerProcess, number: int) -> None:
        self.running.remove(beat)
        beat.send_signal(number)
        beat.wait()

    def take(self) -> int:
        """Take the ticks that have come; how many there are by now."""
        with pika.BlockingConnection(pika.URLParameters(self._vhost)) as connection:
            channel = connection.channel()
            while True:
                method, _properties, body = channel.basic_get("ticks", auto_ack=True)
                if method is None:
                    return len(self.sent)
                self.sent.append(json.loads(body)[0][0])

    def wait(self, more: int) -> None:
        wanted = self.take() + more
        wait_until(f"{wanted} ticks", lambda: self.take() >= wanted, 60, every=0.2)

    def gaps(self) -> list[float]:
        return [later - sooner for sooner, later in zip(self.sent, self.sent[1:], strict=False)]


@pytest.fixture(params=[NATIVE, ADOPTED], ids=["native", "adopted"])
def beats(request: pytest.FixtureRequest, vhost: str, tmp_path: Path) -> Iterator[Beats]:
    with contextlib.ExitStack() as stack:
        yield Beats(vhost, tmp_path, request.param, stack)


def test_leaders_are_killed_and_no_tick_is_sent_twice(beats: Beats) -> None:
    """The drill: three beats, four leaders killed, each replaced by a new follower."""
    for _ in range(3):
        beats.start()
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGKILL):
        leader = beats.leader()
        beats.wait(2)
        beats.end(leader, number)
        beats.start()
        beats.leader()
        beats.wait(1)
    beats.wait(3)
    # A beat that does not know the last run would count from another time, or send what is due at once.
    assert min(beats.gaps()) > SECOND, beats.gaps()
    # The last of them may only be starting.
    wait_until("two wait", lambda: sum("waiting" in beat.output for beat in beats.running) >= 2, 60)


def test_a_leader_that_stands_still_is_followed_and_sends_nothing_more(beats: Beats) -> None:
    leader = beats.start()
    leader.wait_for_line(LEADS, 60)
    follower = beats.start()
    follower.wait_for_line(WAITS, 60)
    beats.wait(2)
    leader.send_signal(signal.SIGSTOP)
    # The broker gives a silent leader up after two heartbeats.
    follower.wait_for_line(LEADS, 60)
    beats.wait(2)
    leader.send_signal(signal.SIGCONT)
    leader.wait_for_line(r"beat: Connection error: .*; this beat stops sending, and connects again", 60)
    since = leader.mark()
    beats.wait(2)
    assert "Sending due task" not in "\n".join(leader.output.splitlines()[since:])
    assert min(beats.gaps()) > SECOND, beats.gaps()


def test_a_broker_that_restarts_has_one_leader_again(beats: Beats, rabbitmq: RabbitMQ, vhost: str) -> None:
    for _ in range(2):
        beats.start()
    beats.leader()
    beats.wait(2)
    marks = [(beat, beat.mark()) for beat in beats.running]
    assert rabbitmq.close_all_connections(vhost_of(vhost)) >= 2
    for beat, since in marks:
        beat.wait_for_line(r"beat: Connection error:", 60, since=since)
    assert beats.leader() in beats.running
    beats.wait(2)
    assert min(beats.gaps()) > SECOND, beats.gaps()


def test_without_a_queue_each_beat_sends(beats: Beats) -> None:
    with (beats.home / "tasks.py").open("a") as app:
        app.write('app.conf.beat_leader_queue = ""\n')
    for _ in range(2):
        beats.start().wait_for_line(r"Sending due task", 60)


def test_a_queue_that_cannot_be_used_is_an_error(beats: Beats) -> None:
    beats.declare(QUEUE)
    beat = beats.start()
    assert beat.wait() == 1
    beat.wait_for_line(rf"turbo beat: the queue {QUEUE} cannot be used: .*PRECONDITION_FAILED|cannot be used")


@pytest.mark.row("CL19")
def test_beats_beside_all_workers(beats: Beats) -> None:
    """``-B`` on every worker is safe, also where they use one file."""
    workers = [beats.start("-B", "-c", "1", "-n", f"w{i}@%h", command=(*BEAT[:-1], "worker")) for i in range(3)]
    leader = beats.leader()
    beats.wait(3)
    beats.end(leader, signal.SIGKILL)
    assert beats.leader() in workers
    beats.wait(2)
    assert min(beats.gaps()) > SECOND, beats.gaps()
