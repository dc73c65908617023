"""Runs one worker and both clients: sends all scenarios, waits, and reads the outcomes when the worker has ended."""

from __future__ import annotations

import json
import re
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis
from kombu import Connection, Queue

from tests.harness.processes import wait_until
from tests.harness.worker import TURBO, WorkerProcess
from tests.scenarios.apps.scenario_settings import DEAD, HOLD, QUEUES
from tests.scenarios.sending import CeleryClient, Client, Sending, TurboClient

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.harness.rabbitmq import QueueFacts, RabbitMQ
    from tests.scenarios.scenario import Scenario

APPS = Path(__file__).parent / "apps"
READY = r"ready\.$"
HOSTNAME = "w@here"
#: Seconds without any progress after which what is missing is taken to be missing for good.
PATIENCE = 45
CELERY = (sys.executable, "-W", "ignore", "-m", "celery")
#: The command of each make, and what Celery's is told besides: nobody but the scenarios is to be heard. "native" is
#: the app with its import lines changed, so that it is turbo's own.
COMMANDS = {"celery": CELERY, "turbo": TURBO[:-1], "native": TURBO[:-1]}
QUIET = {"celery": ("--without-gossip", "--without-mingle"), "turbo": (), "native": ()}
_IMPORT = re.compile(r"^from celery(?=[ .])", re.MULTILINE)
_META = "celery-task-meta-"
_MASKS = (
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "<uuid>"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(\+00:00)?", "<time>"),
    (r"\b0x[0-9a-f]+", "<address>"),
    (r"gen\d+@[\w.-]+", "<origin>"),
)  # fmt: skip


@dataclass(slots=True)
class Observed:
    """The outcome of a scenario, of one client under one worker, without values that differ between runs."""

    documents: dict[str, dict[str, Any]]
    lines: dict[str, list[list[Any]]]
    dead: list[str]
    order: list[str]
    #: What the client's own handles say, by label.
    read: dict[str, dict[str, Any]]
    seen: Any


class Held:
    """A task that waits for the test, so that the broker can be asked about its message."""

    def __init__(self, place: Place, client: Client) -> None:
        self.place = place
        self.queue = HOLD[client.name]

    def gate(self, to: Sending, label: str) -> str:
        """Return the path of the file for which the task waits."""
        return str(self.place.directory / f"gate-{to.id(label)}")

    def wait_holding(self, to: Sending, label: str) -> None:
        """Wait until the task runs."""
        self.place.wait_recorded(to.id(label), "holding")

    def wait_unacked(self, count: int) -> int:
        """Wait until this many messages of the queue are unacknowledged; return the number."""
        vhost = self.place.broker
        return self.place.rabbitmq.wait_queue(self.queue, vhost, ready=0, unacked=count).unacked

    def open(self, to: Sending, label: str) -> None:
        """Let the task continue."""
        Path(self.gate(to, label)).touch()


class Place:
    """A worker of one kind with one set of options, with its own virtual host and database."""

    def __init__(self, rabbitmq: RabbitMQ, backend: str, directory: Path, scenarios: Sequence[Scenario]) -> None:
        self.rabbitmq = rabbitmq
        self.broker = rabbitmq.new_vhost()
        self.backend = backend
        self.directory = directory
        self.scenarios = scenarios
        self.record = directory / "record"
        self.record.touch()
        self.store = redis.Redis.from_url(backend)
        self.clients: tuple[Client, ...] = (CeleryClient(self.broker, backend), TurboClient(self.broker, backend))
        self._seen: dict[tuple[str, str], Any] = {}
        with Connection(self.broker) as connection:
            Queue(DEAD, durable=True).bind(connection.default_channel).declare()

    def worker(
        self, make: str, *options: str, env: dict[str, str] | None = None, command: Sequence[str] = ()
    ) -> WorkerProcess:
        """Return the worker of a kind, not started; ``command`` replaces its usual command."""
        apps = APPS
        if make == "native":
            apps = self.directory
            for module in APPS.glob("*.py"):
                (apps / module.name).write_text(_IMPORT.sub("from turbo", module.read_text()))
        return WorkerProcess(
            *("-A", "scenario_app", "worker", "-n", HOSTNAME, "-l", "info", *options),
            directory=apps,
            env={
                "BROKER": self.broker,
                "BACKEND": self.backend,
                "RECORD": str(self.record),
                "C_FORCE_ROOT": "1",
                "PYTHONWARNINGS": "ignore",
                "PYTHONDONTWRITEBYTECODE": "1",
                **(env or {}),
            },
            command=command or COMMANDS[make],
        )

    # -- the run -------------------------------------------------------------------------------------------

    @property
    def sent(self) -> list[tuple[Client, Scenario]]:
        """The pairs of client and scenario to send."""
        return [
            (client, each)
            for client in self.clients
            for each in self.scenarios
            if client.name == "celery" or not each.celery_only
        ]

    def send(self, *, early: bool) -> None:
        """Send the scenarios that are sent before, or after, the worker starts."""
        for client, scenario in self.sent:
            if scenario.early is early:
                scenario.send(Sending(client, scenario.name))

    def look_during(self) -> None:
        """Carry out, one after the other, what is looked at while it runs. For a thread that ends afterwards.

        Each ends before the next: what it has left would take the place of a message that is to be taken in.
        """
        for client, scenario in self.sent:
            if scenario.during is not None:
                self._seen[client.name, scenario.name] = scenario.during(
                    Sending(client, scenario.name), Held(self, client)
                )
                self._wait_ended(client, scenario)
        for client in self.clients:
            client.close_thread()

    def wait(self, *, others: bool) -> None:
        """Wait until all sent tasks have ended or nothing happens any more; ``others`` includes observed ones."""
        missing = {
            Sending(client, scenario.name).id(label): end.state
            for client, scenario in self.sent
            if others or scenario.during is None
            for label, end in scenario.ends.items()
        }
        progress, last = (0, 0), time.monotonic()
        while missing and time.monotonic() - last < PATIENCE:
            states = self._states(list(missing))
            ended = {line[0] for line in self._raw_lines() if line[3] in ("postrun", "failure")}
            for task_id, state in list(missing.items()):
                if states.get(task_id) == state and (state is not None or task_id in ended):
                    del missing[task_id]
            now = (len(missing), self.record.stat().st_size)
            if now != progress:
                progress, last = now, time.monotonic()
            time.sleep(0.1)

    def _wait_ended(self, client: Client, scenario: Scenario) -> None:
        to = Sending(client, scenario.name)
        ends = {to.id(label): end.state for label, end in scenario.ends.items() if end.state is not None}
        wait_until(f"all of {scenario.name} has ended", lambda: self._states(list(ends)) == ends, 90)

    def control(self, command: str, **arguments: Any) -> None:
        """Send a remote control command, as Celery's command line does; return when it was answered."""
        app = self.clients[0].app  # type: ignore[attr-defined]
        answers = app.control.broadcast(
            command, arguments=arguments, reply=True, limit=1, timeout=60, destination=[HOSTNAME]
        )
        assert answers, f"{command} was not answered"

    def wait_recorded(self, task_id: str, event: str) -> None:
        """Wait for a line of the recorder."""
        wait_until(
            f"{event} of {task_id}",
            lambda: any(line[0] == task_id and line[3] == event for line in self._raw_lines()),
            90,
        )

    def close(self) -> None:
        """Close everything and delete the virtual host."""
        for client in self.clients:
            client.close()
        self.store.close()
        self.rabbitmq.delete_vhost(self.broker)

    # -- looking -------------------------------------------------------------------------------------------

    def facts(self) -> dict[str, QueueFacts | None]:
        """Return the broker's state of each queue."""
        return {name: self.rabbitmq.queue(name, self.broker) for name in QUEUES}

    def left(self) -> dict[str, int]:
        """Return the number of remaining messages by queue, without empty queues."""
        facts = self.facts()
        return {name: fact.ready + fact.unacked for name, fact in facts.items() if fact and fact.ready + fact.unacked}

    def observe(self) -> dict[tuple[str, str], Observed]:
        """Return the outcomes of each client's scenarios; called after the worker has ended."""
        dead = self._dead_letters()
        raw = self._raw_lines()
        documents = self._documents()
        found = {}
        for client, scenario in self.sent:
            to = Sending(client, scenario.name)
            mask = _Mask(to.prefix)
            lines: dict[str, list[list[Any]]] = defaultdict(list)
            order = []
            for task_id, attempt, who, event, *details in raw:
                if isinstance(task_id, str) and task_id.startswith(to.prefix):
                    lines[task_id.removeprefix(to.prefix)].append([attempt, who, event, *mask.all(details)])
                    if event == "prerun":
                        order.append(task_id.removeprefix(to.prefix))
            found[client.name, scenario.name] = Observed(
                documents={
                    task_id.removeprefix(to.prefix): mask.document(document)
                    for task_id, document in sorted(documents.items())
                    if task_id.startswith(to.prefix)
                },
                # attempts of one message overlap by their last lines: by attempt, then as they were written
                lines={label: sorted(each, key=lambda line: line[0]) for label, each in sorted(lines.items())},
                dead=sorted(each.removeprefix(to.prefix) for each in dead if each.startswith(to.prefix)),
                order=order,
                read={label: mask.all(_read(client, to.id(label))) for label in scenario.ends},
                seen=self._seen.get((client.name, scenario.name)),
            )
        return found

    def _raw_lines(self) -> list[list[Any]]:
        data = self.record.read_bytes()
        return [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]

    def _states(self, ids: list[str]) -> dict[str, str]:
        values = self.store.mget([_META + each for each in ids])
        return {
            each: _status(value)
            for each, value in zip(ids, values, strict=True)  # type: ignore[arg-type]
            if value is not None
        }

    def _documents(self) -> dict[str, dict[str, Any]]:
        keys = [key.decode() for key in self.store.keys(f"{_META}*")]  # type: ignore[union-attr]
        values = self.store.mget(keys)
        return {
            key.removeprefix(_META): _decoded(value)
            for key, value in zip(keys, values, strict=True)  # type: ignore[arg-type]
            if value is not None
        }

    def _dead_letters(self) -> list[str]:
        found = []
        with Connection(self.broker) as connection:
            queue = Queue(DEAD, durable=True).bind(connection.default_channel)
            while (message := queue.get(no_ack=True, accept=["json", "pickle", "yaml", "msgpack"])) is not None:
                found.append(str(message.headers.get("id") or message.properties.get("correlation_id")))
        return found


def _status(value: bytes) -> str:
    return str(_decoded(value)["status"])


def _decoded(value: bytes) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(value)
    return document


def _read(client: Client, task_id: str) -> dict[str, Any]:
    """Return what a client's handle reads of a call; an exception as its class and arguments."""
    handle = client.result(task_id)
    value = handle.result
    if isinstance(value, BaseException):
        value = [type(value).__name__, str(value)]
    return {
        "state": handle.state,
        "result": repr(value),
        "traceback": _last_line(handle.traceback),
        "children": [str(child) for child in handle.children or ()],
    }


def _last_line(traceback: str | None) -> str | None:
    return traceback.strip().splitlines()[-1] if traceback else traceback


class _Mask:
    """Removes from values what differs between runs, and the prefix of a scenario's ids."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def text(self, text: str) -> str:
        """Return a text of limited length, masked."""
        text = text.replace(self._prefix, "")
        for pattern, replacement in _MASKS:
            text = re.sub(pattern, replacement, text)
        return text if len(text) < 1000 else f"{text[:100]}... ({len(text)})"

    def all(self, value: Any) -> Any:
        """Return a JSON value, masked."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.all(each) for each in value]
        if isinstance(value, dict):
            return {self.text(key): self.all(each) for key, each in value.items()}
        return value

    def document(self, document: dict[str, Any]) -> dict[str, Any]:
        """Return a stored document, masked; its traceback is reduced to its beginning and end."""
        found: dict[str, Any] = self.all({**document, "traceback": None})
        traceback = document["traceback"]
        if traceback:
            head = traceback.startswith("Traceback (most recent call last):")
            found["traceback"] = [head, self.text(_last_line(traceback) or "")]
        return found
