"""Which of Django's connections are closed when, with a stand-in for Django's handler."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from turbo.fixups.django_connections import TaskConnections


class Driver:
    """A driver's connection; ``descriptor`` None: it has no descriptor to return."""

    def __init__(self, descriptor: int | None = None) -> None:
        self.descriptor = descriptor

    def fileno(self) -> int:
        if self.descriptor is None:
            raise AttributeError("fileno")
        return self.descriptor


class Connection:
    """What ``TaskConnections`` uses of Django's wrapper, and what it did to it."""

    def __init__(self, alias: str = "default", pool: bool = False, fails: Exception | None = None) -> None:
        self.alias = alias
        self.settings_dict = {"OPTIONS": {"pool": pool}}
        self.connection: Driver | None = Driver()
        self.in_atomic_block = False
        self.errors_occurred = False
        self.usable = True
        self.fails = fails
        self.done: list[str] = []

    def _note(self, what: str) -> None:
        self.done.append(what)
        if self.fails is not None:
            raise self.fails

    def close(self) -> None:
        self.connection = None
        self._note("close")

    def close_if_unusable_or_obsolete(self) -> None:
        self._note("close if due")

    def close_pool(self) -> None:
        self._note("close pool")

    def is_usable(self) -> bool:
        return self.usable


class Handler:
    def __init__(self, *connections: Connection) -> None:
        self.opened = {connection.alias: connection for connection in connections}

    def all(self, initialized_only: bool) -> list[Connection]:
        assert initialized_only, "asking for all would make connections"
        return list(self.opened.values())

    def __delitem__(self, alias: str) -> None:
        del self.opened[alias]


def kept(*connections: Connection, reuse_max: int = 0) -> tuple[TaskConnections, Handler, list[str]]:
    handler, caches = Handler(*connections), []
    return TaskConnections(handler, lambda: caches.append("closed"), reuse_max), handler, caches  # type: ignore[func-returns-value]


def task(eager: bool = False) -> Any:
    return SimpleNamespace(request=SimpleNamespace(is_eager=eager))


def test_age_decides_before_and_after_each_task() -> None:
    connection = Connection()
    connections, _, caches = kept(connection)
    connections.before_task(task())
    assert (connection.done, caches) == (["close if due"], [])
    connections.after_task(task())
    assert (connection.done, caches) == (["close if due"] * 2, ["closed"])


def test_an_eager_task_leaves_its_callers_connections_alone() -> None:
    connection = Connection()
    connections, _, caches = kept(connection)
    connections.before_task(task(eager=True))
    connections.after_task(task(eager=True))
    assert (connection.done, caches) == ([], [])


def test_what_is_no_task_does_not_count_as_one() -> None:
    connection = Connection()
    connections, _, caches = kept(connection)
    connections.after_hook()
    assert (connection.done, caches) == (["close if due"], ["closed"])


def test_reuse_counts_tasks() -> None:
    connection = Connection()
    connections, _, _ = kept(connection, reuse_max=3)
    closed = []
    for _ in range(7):
        connection.connection, connection.done = Driver(), []
        connections.before_task(task())
        connections.after_task(task())
        closed.append("close" in connection.done)
    assert closed == [False, False, True, False, False, True, False]


def test_reuse_does_not_keep_what_is_broken() -> None:
    connection = Connection()
    connections, _, _ = kept(connection, reuse_max=3)
    connection.errors_occurred = True
    connections.after_task(task())
    assert connection.done == [], "an error of the task's own is no reason"
    connection.usable = False
    connections.before_task(task())
    assert connection.done == ["close"]


@pytest.mark.parametrize("reuse_max", [0, 100])
def test_a_kept_connection_is_tried_after_a_pause(monkeypatch: pytest.MonkeyPatch, reuse_max: int) -> None:
    clock = 100.0
    monkeypatch.setattr("time.monotonic", lambda: clock)
    connection = Connection()
    connections, _, _ = kept(connection, reuse_max=reuse_max)
    connections.after_task(task())
    connection.usable = False
    connections.before_task(task())
    assert "close" not in connection.done, "tasks that follow one another do not pay for the question"
    clock += 1.0
    connections.before_task(task())
    assert connection.done[-1] == "close"
    connections.before_task(task())
    assert connection.done.count("close") == 1


@pytest.mark.parametrize("reuse_max", [0, 100])
def test_an_abandoned_transaction_costs_the_connection(reuse_max: int) -> None:
    connection, other = Connection(), Connection("other")
    connection.in_atomic_block = True
    connections, handler, _ = kept(connection, other, reuse_max=reuse_max)
    connections.after_task(task())
    assert connection.done == ["close"]
    assert list(handler.opened) == ["other"], "Django opens no connection again within a transaction"


def test_pools_are_closed_with_their_connections() -> None:
    pooled, plain = Connection(pool=True), Connection("plain")
    connections, _, _ = kept(pooled, plain)
    connections.after_task(task())
    assert (pooled.done, plain.done) == (["close if due", "close pool"], ["close if due"])
    connections.before_fork()
    assert (pooled.done[2:], plain.done[1:]) == (["close", "close pool"], ["close"])


def test_what_does_not_close_in_order_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    broken, other = Connection(fails=RuntimeError("connection already closed")), Connection("other")
    connections, _, caches = kept(broken, other)
    with caplog.at_level("INFO", logger="turbo.fixups.django"):
        connections.after_task(task())
    assert (broken.done, other.done, caches) == (["close if due"], ["close if due"], ["closed"])
    assert "The connection default could not be closed in order" in caplog.text


def test_a_socket_of_the_parent_is_closed_without_a_word_to_the_server() -> None:
    ours, theirs = os.pipe()
    try:
        connection = Connection()
        connection.connection = Driver(theirs)
        connections, handler, caches = kept(connection)
        connections.after_fork()
        assert connection.done == ["close"]
        assert list(handler.opened) == ["default"]
        assert caches == ["closed"]
        os.write(theirs, b"goodbye")
        assert os.read(ours, 10) == b"", "nobody holds the other end any more: what is said at closing went nowhere"
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_pool_of_the_parents_is_neither_used_nor_closed() -> None:
    connection, returned = Connection(pool=True), Connection("returned", pool=True)
    returned.connection = None
    connections, handler, _ = kept(connection, returned)
    pools = {"default": object(), "returned": object()}
    for each in (connection, returned):
        each._connection_pools = pools  # type: ignore[attr-defined]
    connections.after_fork()
    assert (connection.done, returned.done) == ([], [])
    assert (pools, handler.opened) == ({}, {})


def test_a_driver_that_does_not_tell_its_socket_is_left_as_it_is() -> None:
    connection, unopened = Connection(), Connection("unopened")
    unopened.connection = None
    connections, handler, _ = kept(connection, unopened)
    connections.after_fork()
    assert (connection.done, unopened.done) == ([], [])
    assert list(handler.opened) == ["unopened"]
