"""Commands by name, and what they make of their arguments."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from turbo import Turbo
from turbo.amqp.topology import Exchange, Queue
from turbo.app.conf.conf import Settings
from turbo.control import task_commands
from turbo.control.app_commands import Command
from turbo.control.events import Events
from turbo.control.jsonable import plain
from turbo.control.options import ControlOptions, control_options
from turbo.control.registry import NO_REPLY, Registry
from turbo.control.task_commands import TaskCommands, signal_number
from turbo.control.worker_commands import WorkerCommands
from turbo.master.outcome.failure_documents import FailureDocuments
from turbo.master.outcome.task_events import TaskEvents
from turbo.native.commands import NativeCommands
from turbo.policy.worker_options import WorkerOptions
from turbo.protocol.clock import LogicalClock


class App:
    """Has one command."""

    def find(self, method: str) -> Command | None:
        return (lambda: "app's") if method in ("own", "ping") else None

    def revoked(self, task_ids: Sequence[str]) -> None:
        raise AssertionError

    def limited(self, task_name: str, attributes: Mapping[str, Any]) -> None:
        raise AssertionError


def test_the_workers_own_commands_come_first() -> None:
    registry = Registry([{"ping": lambda: "pong"}], App())
    ping = registry.own("ping")
    assert ping is not None
    assert ping() == "pong"
    assert registry.own("own") is None
    assert registry.apps("own")() == "app's"
    with pytest.raises(KeyError, match="nosuch"):
        registry.apps("nosuch")
    with pytest.raises(ValueError, match="two commands"):
        Registry([{"ping": lambda: 1}, {"ping": lambda: 2}], App())


@pytest.mark.parametrize(
    ("given", "number"),
    [(None, 15), ("", 15), ("KILL", 9), ("SIGKILL", 9), ("sigint", 2), ("Usr1", 10), (9, 9), ("15", 15)],
)
def test_signals_have_many_names(given: Any, number: int) -> None:
    assert signal_number(given) == number


@pytest.mark.parametrize("given", ["NOSUCH", 0, 9999, -1, "99999"])
def test_what_is_no_signal_is_refused(given: Any) -> None:
    with pytest.raises(ValueError, match="signal|Signals"):
        signal_number(given)


class Revoking:
    """Records its calls; ``running`` and ``waiting`` are the tasks that it reports."""

    def __init__(self, running: Sequence[str] = ()) -> None:
        self._running = running
        self.waiting: list[str] = []
        self.finished = True
        self.calls: list[tuple[str, Any]] = []

    def running(self) -> list[tuple[None, int, str]]:
        return [(None, 1, name) for name in self._running]

    def id_of(self, delivery: str) -> str:
        return delivery

    def revoke(self, ids: set[str]) -> Any:
        self.calls.append(("revoke", ids))
        return self._swept([name for name in self.waiting if name in ids])

    def terminate(self, ids: set[str], number: int) -> Any:
        self.calls.append(("terminate", (ids, number)))
        return self._swept([name for name in self._running if name in ids])

    def revoke_stamps(self, stamps: dict[str, Any]) -> Any:
        self.calls.append(("stamps", stamps))
        return self._swept([])

    def _swept(self, found: list[str]) -> Any:
        async def wait() -> list[str]:
            await asyncio.sleep(0)
            return found

        return SimpleNamespace(found=found, finished=self.finished, wait=wait)

    def terminate_stamped(self, stamps: dict[str, Any], number: int) -> dict[str, list[Any]]:
        return {"batch": ["b1"]} if "batch" in stamps else {}


def _commands(running: Sequence[str] = ()) -> tuple[TaskCommands, Revoking, list[Sequence[str]]]:
    revoking: Any = Revoking(running)
    told: list[Sequence[str]] = []
    return TaskCommands(revoking, told.append), revoking, told


@pytest.mark.row("RC16", "TM8")
def test_revoking_one_and_several() -> None:
    commands, revoking, told = _commands()
    assert commands.revoke("a") == {"ok": "tasks {'a'} flagged as revoked"}
    assert commands.revoke(["b"], ignored_by_celery_too=1) == {"ok": "tasks {'b'} flagged as revoked"}
    assert commands.revoke([]) == {"ok": "tasks set() flagged as revoked"}
    assert revoking.calls == [("revoke", {"a"}), ("revoke", {"b"}), ("revoke", set())]
    assert told == [["a"], ["b"], []]
    # what waits here is announced where it is discarded
    revoking.waiting = ["c"]
    commands.revoke(["c", "d"])
    assert told[-1] == ["d"]
    with pytest.raises(TypeError):
        commands.revoke(["a", 3])  # type: ignore[list-item]


def test_the_reply_waits_until_the_app_has_marked_what_is_not_here() -> None:
    """Who has the reply may send such a task at once, and its end is to be stored once."""

    async def told_at_last() -> None:
        marked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        revoking: Any = Revoking(())
        reply: Any = TaskCommands(revoking, lambda _ids: marked).revoke("a")
        answer = asyncio.ensure_future(reply)
        await asyncio.sleep(0)
        assert (revoking.calls, answer.done()) == ([("revoke", {"a"})], False)
        marked.set_result(None)
        assert await answer == {"ok": "tasks {'a'} flagged as revoked"}

    asyncio.run(told_at_last())


def test_a_sweep_that_takes_longer_is_waited_for() -> None:
    async def asked() -> None:
        commands, revoking, told = _commands(["a"])
        revoking.finished, revoking.waiting = False, ["b"]
        reply: Any = commands.revoke(["a", "b", "c"])
        assert told == []
        assert "'c'" in (await reply)["ok"]
        assert told == [["c"]], "not what runs, nor what waits here"
        ended: Any = commands.terminate("TERM", ["a", "c"])
        assert await ended == {"ok": "terminate: a"}
        stamped: Any = commands.revoke_by_stamped_headers({"batch": "b1"})
        assert "flagged" in (await stamped)["ok"]

    asyncio.run(asked())


@pytest.mark.row("RC16")
def test_many_ids_are_worked_on_in_slices_between_which_the_loop_works() -> None:
    ids = [f"id-{number}" for number in range(30_000)]

    async def turns() -> tuple[int, dict[str, str]]:
        commands, revoking, told = _commands()
        reply: Any = asyncio.ensure_future(commands.revoke(ids))  # type: ignore[arg-type]
        count = 0
        while not reply.done():
            await asyncio.sleep(0)
            count += 1
        assert revoking.calls == [("revoke", set(ids))]
        assert sorted(name for part in told for name in part) == sorted(ids)
        assert max(map(len, told)) <= task_commands._TOLD
        return count, reply.result()

    count, reply = asyncio.run(turns())
    assert count >= 2 * len(ids) // task_commands._SLICE + len(ids) // task_commands._TOLD
    assert reply["ok"].startswith("tasks {'id-") and reply["ok"].endswith("'} flagged as revoked")
    assert set(reply["ok"][len("tasks {") : -len("} flagged as revoked")].split(", ")) == {repr(each) for each in ids}


@pytest.mark.row("RC16", "RC17", "TM10")
def test_terminating() -> None:
    commands, revoking, told = _commands(["a", "c"])
    assert commands.revoke(["a", "b"], terminate=True, signal="SIGKILL") == {"ok": "terminate: a"}
    assert commands.terminate("TERM", "b") == {"ok": "terminate: tasks unknown"}
    assert revoking.calls == [("terminate", ({"a", "b"}, signal.SIGKILL)), ("terminate", ({"b"}, signal.SIGTERM))]
    # a task that runs here is not marked as revoked by anybody else
    assert told == [["b"], ["b"]]
    with pytest.raises(ValueError, match="NOSUCH"):
        commands.revoke("a", terminate=True, signal="NOSUCH")
    assert len(revoking.calls) == 2


@pytest.mark.row("RC18")
def test_revoking_by_stamps() -> None:
    commands, revoking, _told = _commands()
    assert "not terminated" in commands.revoke_by_stamped_headers({"batch": "b1"})["ok"]
    assert commands.revoke_by_stamped_headers(["batch=b1"], terminate=True)["ok"] == "headers {'batch': ['b1']} revoked"
    assert "were not terminated" in commands.revoke_by_stamped_headers(["x=1"], terminate=True)["ok"]
    assert revoking.calls[1] == ("stamps", {"batch": "b1"})


class Loop:
    """Timers that the test fires."""

    def __init__(self) -> None:
        self.timers: list[tuple[float, Callable[..., None], tuple[Any, ...]]] = []

    def call_later(self, delay: float, callback: Callable[..., None], *args: Any) -> Any:
        timer = (delay, callback, args)
        self.timers.append(timer)

        class Handle:
            def cancel(_self) -> None:
                self.timers.remove(timer)

        return Handle()

    def fire(self) -> None:
        _delay, callback, args = self.timers.pop(0)
        callback(*args)


class Mailbox:
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def send(self, exchange: Exchange, routing_key: str, _header: bytes, _body: bytes) -> None:
        assert exchange == Exchange("celeryev", "topic")
        self.sent.append(routing_key)


OPTIONS = ControlOptions(None, frozenset(), "json", Exchange("celeryev", "topic"), "json", "")


def _events(interval: float | None) -> tuple[Events, Loop, Mailbox]:
    loop: Any = Loop()
    mailbox: Any = Mailbox()
    facts = {"active": 0, "processed": 0}
    events = Events(loop, mailbox, OPTIONS, LogicalClock(), lambda: facts, hostname="n@h", interval=interval)
    return events, loop, mailbox


@pytest.mark.row("EV11")
def test_a_worker_says_that_it_comes_lives_and_goes() -> None:
    events, loop, mailbox = _events(2.0)
    events.begin()
    assert [timer[0] for timer in loop.timers] == [2.0]
    loop.fire()
    loop.fire()
    assert mailbox.sent == ["worker.online", "worker.heartbeat", "worker.heartbeat"]
    events.begin()  # another connection
    assert len(loop.timers) == 1
    events.end()
    assert mailbox.sent[3:] == ["worker.online", "worker.offline"]
    assert not loop.timers
    events.end()
    assert len(mailbox.sent) == 5


def test_without_heartbeat_nothing_is_sent() -> None:
    events, loop, mailbox = _events(None)
    events.begin()
    events.end()
    assert (loop.timers, mailbox.sent) == ([], [])


@pytest.mark.row("RC21", "RC22", "RC27")
def test_commands_for_the_worker() -> None:
    asked: list[bool] = []
    events, _loop, mailbox = _events(2.0)
    task_events = TaskEvents({}, FailureDocuments({}, stores=False))
    table = WorkerCommands(lambda: asked.append(True), events, task_events).table()
    assert table["shutdown"](msg="x" * 10_000) is NO_REPLY
    assert asked == [True]
    assert table["enable_events"]() == {"ok": "task events enabled"}
    assert task_events.on
    table["heartbeat"]()
    assert mailbox.sent == ["worker.heartbeat"]


@pytest.mark.row("RC3", "RC10", "RC11")
def test_commands_about_turbos_own_app() -> None:
    app = Turbo("a", set_as_current=False)
    app.conf.broker_url = "amqp://user:secret@host//"
    app.conf.task_routes = {"x": {"queue": object()}}

    @app.task(name="b.two")
    def two() -> None: ...

    @app.task(name="a.one", acks_late=True)
    def one() -> None: ...

    commands = NativeCommands(app, "one@here", None)
    registered, conf, report = (commands.find(name) for name in ("registered", "dump_conf", "report"))
    assert registered is not None
    assert conf is not None
    assert report is not None
    # Tasks that belong to every app are here too, of whatever modules other tests have imported.
    ours = [name for name in registered() if name[1:2] == "."]
    assert ours == ["a.one", "b.two"]
    assert "a.one [acks_late=True]" in registered(taskinfoitems=["acks_late", "_secret", 3])
    assert "secret" not in str(conf()) + str(report())
    assert conf()["broker_url"].startswith("amqp://user:")
    assert commands.find("ping") is None


def test_anything_becomes_plain() -> None:
    deep: list[Any] = []
    deep.append(deep)
    found = plain({"a": (1, {2}), 3: object(), "__hidden__": 1, "d": deep, "f": 1.5, "n": None})
    assert found["a"] == [1, [2]]
    assert found["3"].startswith("<object object")
    assert "__hidden__" not in found
    assert (found["f"], found["n"]) == (1.5, None)


@pytest.mark.row("RC33", "CF26", "CF27")
def test_the_mailbox_is_declared_as_celery_declares_it() -> None:
    options = WorkerOptions("one@here", 1)
    found = control_options(Settings(), options)
    assert found.mailbox == Queue(
        "one@here.celery.pidbox",
        Exchange("celery.pidbox", "fanout", durable=False),
        durable=False,
        exclusive=True,
        auto_delete=True,
        queue_arguments={"x-expires": 10_000, "x-message-ttl": 300_000},
    )
    other = control_options(Settings({"control_queue_durable": True, "control_exchange": "proj"}), options)
    assert other.mailbox is not None
    assert (other.mailbox.exclusive, other.mailbox.auto_delete, other.mailbox.durable) == (False, False, True)
    assert other.mailbox.name == "one@here.proj.pidbox"
    assert control_options(Settings({"worker_enable_remote_control": False}), options).mailbox is None
    assert (found.event_exchange, found.event_serializer) == (Exchange("celeryev", "topic"), "json")
    other = control_options(Settings({"event_exchange": "seen", "event_serializer": "msgpack"}), options)
    assert (other.event_exchange, other.event_serializer) == (Exchange("seen", "topic"), "msgpack")
