"""Which handlers and receivers a run calls, and the order with the child's records: one executor, real rings."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from turbo import Task, Turbo, signals, states
from turbo.app.tasks.einfo import ExceptionInfo, UnpicklableError
from turbo.child import task_hooks as task_hooks
from turbo.child.options import ChildOptions
from turbo.child.reporting import Reporter
from turbo.child.time_limits import SoftLimit
from turbo.exceptions import Ignore, Reject
from turbo.native.executor import NativeExecutor
from turbo.policy.settling import Ending, Verb
from turbo.protocol import message as messages
from turbo.protocol.properties import encode_header
from turbo.protocol.tagged_json import dumps
from turbo.ring import frames
from turbo.ring.link import ChildLink, MasterLink

OPTIONS = ChildOptions(
    hostname="w@h", accept_content=frozenset({"application/json"}), max_body_size=1 << 20, time_limit=None,
    soft_time_limit=None, max_deliveries=5, stores=True, result_serializer="json", result_extended=False,
    queues=frozenset(), verbose=False, async_concurrency=1, threads=0,
)  # fmt: skip


class Bench:
    """An executor, and the master that answers it."""

    def __init__(self, master: MasterLink, child: ChildLink) -> None:
        self.app = Turbo("bench", set_as_current=False)
        self.master = master
        self.link = child
        self.happened: list[Any] = []
        #: What the store says of each document.
        self.stored = True
        #: What the last task has left for the master's hooks.
        self.for_hooks: Any = None
        self._child: NativeExecutor | None = None

    def hears(self, *names: str) -> Callable[[], None]:
        """Connect a receiver to signals, by name; returns what disconnects it."""

        def receiver(signal: Any, **named: Any) -> None:
            self.happened.append((signal.name, named.get("state")) if "state" in named else signal.name)

        for name in names:
            getattr(signals, name).connect(receiver, weak=False)
        return lambda: [getattr(signals, name).disconnect(receiver) for name in names] and None

    def run(self, name: str, *args: Any, **fields: Any) -> frames.Done:
        """Run one message to its DONE record."""
        soft = SoftLimit(self.link.page)
        reporter = Reporter(
            self.link, soft, known_queues=frozenset(), declaring=lambda: None,  # type: ignore[arg-type, return-value]
            result_serializer="json", stores=True,
        )  # fmt: skip
        executor = NativeExecutor(self.app, OPTIONS, self.link, soft, reporter)
        self._answer_from_within(executor)
        headers, body_of, properties = messages.build("ID", name, args, {}, **fields)
        properties.headers, properties.content_type, properties.content_encoding = headers, "application/json", "utf-8"
        body = dumps(body_of)
        header = encode_header(properties, len(body))
        executor.execute(1, b"".join(frames.pack_task(0, b"", header, body)))
        self.link.signal()
        done = None
        for kind, _seq, payload in self.master.drain():
            if kind == frames.DONE:
                done = payload
        assert done is not None
        if frames.unpack_done_head(done)[2] & frames.FOR_HOOKS:
            head = frames.unpack_done_head(done)
            self.for_hooks = pickle.loads(done[frames.DONE_SIZE :])
            return frames.Done(*head, store=None)
        return frames.unpack_done(done)

    def _answer_from_within(self, executor: NativeExecutor) -> None:
        """The child sleeps until it is answered: be the master in its sleep."""
        questions = executor._questions
        wait = questions.wait

        def answered(seq: int) -> bool:
            self.link.signal()
            for kind, _number, payload in self.master.drain():
                if kind == frames.ASKED:
                    asked = frames.unpack_asked(payload)
                    self.happened.append(("asked", asked.verb))
                    self.master.answer(asked.ticket, self.stored)
            return wait(seq)

        questions.wait = answered  # type: ignore[method-assign]


@pytest.fixture
def bench() -> Iterator[Bench]:
    with contextlib.closing(MasterLink(1)) as master:
        child = ChildLink.attach(1, [os.dup(fd) for fd in master.child_fds()])
        master.close_child_fds()
        with contextlib.closing(child):
            yield Bench(master, child)


@pytest.fixture
def all_heard(bench: Bench) -> Iterator[Bench]:
    undo = bench.hears(
        "task_prerun", "task_postrun", "task_success", "task_failure", "task_retry", "task_internal_error"
    )
    yield bench
    undo()


def listening(bench: Bench) -> type[Task]:
    """A base class whose handlers note that they were called."""
    names = ("before_start", "on_success", "on_failure", "on_retry", "after_return")
    handlers = {name: lambda *_args, name=name: bench.happened.append(name) for name in names}
    return type("Listening", (Task,), handlers)


@pytest.mark.row("EX1")
def test_success(all_heard: Bench) -> None:
    bench = all_heard
    bench.app.task(name="t", base=listening(bench))(lambda: bench.happened.append("body"))
    done = bench.run("t")
    assert bench.happened == [
        "task_prerun", "before_start", "body", ("asked", Verb.ACK), "on_success", "task_success", "after_return",
        ("task_postrun", states.SUCCESS),
    ]  # fmt: skip
    assert (done.verb, done.ending, done.store) == (Verb.ACK, Ending.SUCCESS, None)


def test_failure(all_heard: Bench) -> None:
    bench = all_heard

    @bench.app.task(name="t", base=listening(bench))
    def fails() -> None:
        raise ValueError

    done = bench.run("t")
    assert bench.happened[2:] == [
        ("asked", Verb.ACK), "on_failure", "task_failure", "after_return", ("task_postrun", states.FAILURE),
    ]  # fmt: skip
    assert (done.ending, done.store) == (Ending.FAILURE, None)


@pytest.mark.parametrize(("error", "expected"), [
    (Ignore(), [("task_postrun", "IGNORED")]),
    (Reject("no"), [("asked", Verb.REJECT), "task_failure", ("task_postrun", "REJECTED")]),
    (Reject("no", requeue=True), [("task_postrun", "REJECTED")]),
])  # fmt: skip
@pytest.mark.row("SP1")
def test_neither(all_heard: Bench, error: Exception, expected: list[Any]) -> None:
    bench = all_heard

    @bench.app.task(name="t", base=listening(bench), acks_late=True)
    def ends() -> None:
        raise error

    bench.run("t")
    assert bench.happened[2:] == expected


def test_nothing_is_asked_when_nobody_listens(bench: Bench) -> None:
    bench.app.task(name="t")(lambda: 1)
    done = bench.run("t")
    assert bench.happened == []
    assert done.store is not None


def test_nothing_is_asked_when_nothing_is_stored(bench: Bench) -> None:
    bench.app.task(name="t", base=listening(bench))(lambda: 1)
    bench.run("t", ignore_result=True)
    assert bench.happened == ["before_start", "on_success", "after_return"]


def test_no_handler_is_called_for_what_is_not_stored(all_heard: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench = all_heard
    bench.stored = False
    bench.app.task(name="t", base=listening(bench))(lambda: 1)
    bench.run("t")
    assert bench.happened[2:] == [("asked", Verb.ACK), ("task_postrun", states.SUCCESS)]
    assert "The outcome of task t[ID] could not be stored; its handlers are not called" in caplog.text


@pytest.mark.row("EX4")
def test_what_comes_after_the_body_is_an_internal_error(all_heard: Bench) -> None:
    bench = all_heard
    bench.app.task(name="t", base=listening(bench))(lambda: 1)
    link = {"task": "t", "args": [], "kwargs": {}, "options": {"countdown": "soon"}, "subtask_type": None,
            "immutable": False}  # fmt: skip
    with pytest.warns(RuntimeWarning, match="outside body"):
        done = bench.run("t", callbacks=[link])
    assert bench.happened[2:5] == ["task_internal_error", ("asked", Verb.ACK), "on_failure"]
    assert done.ending == Ending.FAILURE


@pytest.mark.row("HA8")
def test_the_own_request_of_a_task_gets_a_report(bench: Bench) -> None:
    bench.app.task(name="t", Request="some:Request")(lambda: {"a": 1})
    bench.run("t")
    failed, text, runtime = bench.for_hooks
    assert (failed, text) == (False, "{'a': 1}")
    assert isinstance(runtime, float)


@pytest.mark.row("EX32")
def test_a_failure_keeps_nothing_of_the_body_alive(bench: Bench) -> None:
    class Large:
        pass

    kept: list[weakref.ref[Large]] = []

    @bench.app.task(name="t")
    def fails() -> None:
        large = Large()
        kept.append(weakref.ref(large))
        raise ValueError

    gc.disable()
    try:
        bench.run("t")
        assert kept[0]() is None
    finally:
        gc.enable()


class Unmakeable(Exception):
    """Its arguments are not those of its constructor."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one + two)


def test_what_cannot_be_pickled_is_reported_by_its_name() -> None:
    failed, einfo, _ = pickle.loads(task_hooks.failure_payload(ExceptionInfo(Unmakeable("a", "b"), "the trace")))
    assert failed
    assert einfo.type is UnpicklableError
    assert str(einfo.exception) == "Unmakeable('ab')"
    assert str(einfo) == "the trace"


def test_einfo() -> None:
    try:
        raise ValueError("boom")
    except ValueError as error:
        einfo = ExceptionInfo(error)
    assert einfo.exc_info == (ValueError, einfo.exception, einfo.tb)
    assert einfo.tb is not None
    assert str(einfo) == einfo.traceback
    assert einfo.traceback.endswith("ValueError: boom\n")
    again = pickle.loads(pickle.dumps(einfo))
    assert (again.type, repr(again.exception), again.traceback) == (ValueError, "ValueError('boom')", einfo.traceback)
    assert repr(einfo) == "<ExceptionInfo: ValueError('boom')>"
