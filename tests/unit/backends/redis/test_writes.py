"""The rules of the Redis writes: order, refusals, supersession, giving up."""

from __future__ import annotations

import zlib

import hiredis
import pytest

from turbo.backends.redis.wire import Fault, classify, command, lifetime, store_frame, task_key_prefix
from turbo.backends.redis.writes import WriteQueue
from turbo.backends.store import Done, ResultWrite, StoreOutcome, StoreSettings


def error(text: str) -> Exception:
    exception: Exception = hiredis.ReplyError(text)
    return exception


class Log:
    """Collects outcomes by name."""

    def __init__(self) -> None:
        self.outcomes: list[tuple[str, StoreOutcome]] = []

    def done(self, name: str) -> Done:
        return lambda outcome: self.outcomes.append((name, outcome))

    def report(self, settled: list[tuple[Done, StoreOutcome]]) -> None:
        for done, outcome in settled:
            done(outcome)


def queue_of(log: Log, *names: str, settings: StoreSettings | None = None) -> WriteQueue:
    queue = WriteQueue(settings or StoreSettings(give_up_after=10))
    for name in names:
        queue.add(ResultWrite(name.partition("/")[0], name.encode()), log.done(name))
    return queue


def keys(data: bytes) -> list[str]:
    reader = hiredis.Reader()
    reader.feed(data)
    found = []
    while (frame := reader.gets()) is not False:
        found.append(frame[4].decode())
    return found


def test_frames_are_what_a_redis_parser_reads() -> None:
    reader = hiredis.Reader()
    reader.feed(store_frame(b"key", b"\r\n\x00", b"60", True))
    name, _sha, *rest = reader.gets()
    assert name == b"EVALSHA"
    assert rest == [b"1", b"key", b"\r\n\x00", b"60", b"1"]
    reader.feed(command(b"AUTH", b"user", "pässword".encode()))
    assert reader.gets() == [b"AUTH", b"user", "pässword".encode()]


@pytest.mark.parametrize(
    ("seconds", "argument"), [(None, b"0"), (0, b"0"), (-5, b"0"), (86400.0, b"86400"), (1.9, b"1")]
)
def test_lifetime(seconds: float | None, argument: bytes) -> None:
    assert lifetime(seconds) == argument


@pytest.mark.parametrize(
    ("prefix", "key"),
    [("", b"celery-task-meta-"), ("a", b"a_celery-task-meta-"), ("a:", b"a:celery-task-meta-"),
     ("a_", b"a_celery-task-meta-"), ("a.", b"a.celery-task-meta-")],
)  # fmt: skip
def test_key_prefix(prefix: str, key: bytes) -> None:
    assert task_key_prefix(prefix) == key


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'.", Fault.WAIT),
        ("LOADING Redis is loading the dataset in memory", Fault.RECONNECT),
        ("READONLY You can't write against a read only replica.", Fault.RECONNECT),
        ("NOSCRIPT No matching script.", Fault.RECONNECT),
        ("MOVED 3999 127.0.0.1:6381", Fault.PERMANENT),
        ("ERR unknown command", Fault.PERMANENT),
        ("", Fault.PERMANENT),
    ],
)
def test_classify(message: str, fault: Fault) -> None:
    assert classify(message) is fault


def test_replies_are_matched_by_order() -> None:
    log = Log()
    queue = queue_of(log, "a", "b", "c")
    assert keys(queue.take()) == ["a", "b", "c"]
    assert queue.take() == b""
    log.report(queue.answer([1, 0], 1).settled)
    assert log.outcomes == [("a", StoreOutcome.STORED), ("b", StoreOutcome.KEPT)]
    assert len(queue) == 1
    queue.recover()
    assert keys(queue.take()) == ["c"]
    log.report(queue.answer([1], 1).settled)
    assert (len(queue), queue.bytes) == (0, 0)


def test_a_reply_too_many_ends_the_connection() -> None:
    queue = queue_of(Log(), "a")
    queue.take()
    assert queue.answer([1, 1], 1).reconnect is not None


def test_recover_keeps_the_order() -> None:
    log = Log()
    queue = queue_of(log, "a", "b")
    queue.take()
    queue.add(ResultWrite("c", b"c"), log.done("c"))
    queue.answer([error("OOM x")], 1)
    queue.recover()
    queue.probing = False
    assert keys(queue.take()) == ["a", "b", "c"]


def test_refused_writes_wait_and_one_of_them_asks() -> None:
    log = Log()
    queue = queue_of(log, "a", "b", "c")
    queue.take()
    answers = queue.answer([error("OOM x"), error("OOM x"), 1], 1)
    assert answers.refusal is not None
    assert queue.can_repeat_refused
    assert not queue.sendable
    queue.recover()
    # the third was accepted, so the server is well again
    assert keys(queue.take()) == ["a", "b"]
    queue.answer([error("OOM x"), error("OOM x")], 2)
    queue.recover()
    assert keys(queue.take()) == ["a"]
    assert not queue.sendable
    log.report(queue.answer([1], 3).settled)
    assert keys(queue.take()) == ["b"]


def test_a_refused_older_document_does_not_follow_a_newer_one() -> None:
    log = Log()
    queue = queue_of(log, "t/STARTED", "u", "t/SUCCESS")
    queue.take()
    log.report(queue.answer([error("OOM x"), error("OOM x"), 1], 1).settled)
    assert dict(log.outcomes) == {"t/SUCCESS": StoreOutcome.STORED, "t/STARTED": StoreOutcome.KEPT}
    queue.recover()
    assert keys(queue.take()) == ["u"]


def test_give_up_is_counted_from_the_first_refusal() -> None:
    log = Log()
    queue = queue_of(log, "a")
    for now in (100.0, 105.0, 109.9):
        queue.take()
        assert queue.answer([error("OOM x")], now).given_up == []
        queue.recover()
    queue.take()
    answers = queue.answer([error("OOM x")], 110.0)
    assert answers.given_up == [("a", "OOM x")]
    log.report(answers.settled)
    assert log.outcomes == [("a", StoreOutcome.FAILED)]
    assert (len(queue), queue.bytes) == (0, 0)


def test_what_can_never_work_fails_at_once() -> None:
    queue = queue_of(Log(), "a", "b")
    queue.take()
    answers = queue.answer([error("MOVED 1 x:1"), 1], 1)
    assert answers.given_up == [("a", "MOVED 1 x:1")]
    assert [outcome for _, outcome in answers.settled] == [StoreOutcome.REFUSED, StoreOutcome.STORED]


@pytest.mark.parametrize(("state", "kept"), [("SUCCESS", True), ("STARTED", False)])
def test_a_compressed_document_is_looked_into(state: str, kept: bool) -> None:
    log = Log()
    queue = WriteQueue(StoreSettings())
    queue.add(ResultWrite("a", b"new", guard=True), log.done("a"))
    queue.take()
    there = zlib.compress(f'{{"status": "{state}"}}'.encode())
    mark = b"\x00celery-compressed\x00application/x-gzip\x00"
    log.report(queue.answer([mark + there], 1).settled)
    if kept:
        assert log.outcomes == [("a", StoreOutcome.KEPT)]
        assert queue.bytes == 0
    else:
        reader = hiredis.Reader()
        reader.feed(queue.take())
        assert reader.gets()[-1] == b"0"


def test_failures_may_live_for_another_time() -> None:
    queue = WriteQueue(StoreSettings(expires=100, failure_expires=5))
    queue.add(ResultWrite("a", b"x"), lambda _: None)
    queue.add(ResultWrite("b", b"x", failed=True), lambda _: None)
    reader = hiredis.Reader()
    reader.feed(queue.take())
    assert [reader.gets()[5], reader.gets()[5]] == [b"100", b"5"]


def test_clear_hands_over_everything_in_order() -> None:
    queue = queue_of(Log(), "a", "b", "c")
    queue.take()
    queue.answer([error("OOM x")], 1)
    queue.add(ResultWrite("d", b"d"), lambda _: None)
    assert [pending.write.task_id for pending in queue.clear()] == ["a", "b", "c", "d"]
    assert (len(queue), queue.bytes) == (0, 0)
