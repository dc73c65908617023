"""Databases that are away, silent, cut off, locked or read-only: outcomes in order, nothing lost, memory bounded."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
import uvloop

from tests.harness.fault_proxy import FaultProxy
from tests.harness.postgres import Postgres
from tests.harness.processes import wait_until
from tests.integration.backends.databases import Place, row
from turbo.app.conf.conf import Settings
from turbo.backends.open_store import open_store, store_settings
from turbo.backends.store import StoreOutcome

COUNT = 3000


class Load:
    """Stores results, a hundred every few milliseconds, as long as the store has room."""

    def __init__(self, place: Place, **conf: Any) -> None:
        self.place = place
        self.conf = {"result_backend": place.backend, **conf}
        #: Numbers in the order in which their outcomes came, and the outcomes.
        self.answered: list[int] = []
        self.outcomes: set[StoreOutcome] = set()
        self.sent = 0
        self.most = 0

    def run(self, trouble: Callable[[Load], None]) -> None:
        """Store while ``trouble`` goes on beside; it stays in the test's own thread."""
        over = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            load = pool.submit(uvloop.run, self._store(over))
            try:
                trouble(self)
            finally:
                over.set()
            load.result()

    def stored(self, number: int) -> None:
        """Wait until so many are stored."""
        wait_until(f"{number} results are stored", lambda: len(self.answered) >= number, 60)

    def in_table(self) -> int:
        """Return how many rows the table has."""
        ((count,),) = self.place.rows("SELECT count(*) FROM celery_taskmeta")
        return int(count)

    async def _store(self, over: threading.Event) -> None:
        settings = replace(store_settings(Settings(self.conf)), reply_timeout=1.0, high_water=500)
        settings = replace(settings, sql=replace(settings.sql, connect_timeout=2.0, reply_timeout=1.0))
        store = open_store(self.conf["result_backend"], settings)
        await store.start()

        def answered(number: int) -> Callable[[StoreOutcome], None]:
            def done(outcome: StoreOutcome) -> None:
                self.answered.append(number)
                self.outcomes.add(outcome)

            return done

        while self.sent < COUNT or not over.is_set():
            # As the master does: no task starts while the store is congested, and those that run may still end.
            if self.sent < COUNT and not store.congested:
                for _ in range(100):
                    store.store(row(f"t{self.sent}", result=self.sent), answered(self.sent))
                    self.sent += 1
                self.most = max(self.most, store.backlog)
            await asyncio.sleep(0.005)
        assert await store.drain(time.monotonic() + 90)
        await store.stop(time.monotonic() + 10)

    def check(self) -> None:
        """Everything was stored, answered in order and once, and never more waited than there is room for."""
        assert self.answered == list(range(COUNT))
        assert self.outcomes == {StoreOutcome.STORED}
        assert self.most <= 600
        assert self.in_table() == COUNT
        assert self.place.rows("SELECT result FROM celery_taskmeta WHERE task_id = 't7'") == [(b"7",)]


@pytest.fixture
def place(postgres: Postgres) -> Place:
    return Place("postgresql", postgres.url(postgres.new_database()))


def _through(place: Place, postgres: Postgres, proxy: FaultProxy) -> str:
    return place.backend.replace(str(postgres.port), str(proxy.port))


def _behind(trouble: Callable[[Load, FaultProxy], None], place: Place, postgres: Postgres) -> Load:
    with FaultProxy(postgres.port) as proxy:
        load = Load(place, result_backend=_through(place, postgres, proxy))
        load.run(lambda load: trouble(load, proxy))
    load.check()
    return load


@pytest.mark.row("ST20", "P22")
def test_nothing_is_lost_when_postgres_refuses_connections(place: Place, postgres: Postgres) -> None:
    def trouble(load: Load, proxy: FaultProxy) -> None:
        load.stored(300)
        proxy.refuse()
        wait_until("no room is left", lambda: load.sent - len(load.answered) >= 500, 60)
        # What was answered is in the table, though more may be there whose answer was cut off.
        assert load.in_table() >= len(load.answered)
        proxy.pass_through()

    _behind(trouble, place, postgres)


@pytest.mark.row("ST20", "P22")
def test_nothing_is_lost_when_postgres_is_silent(
    place: Place, postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    def trouble(load: Load, proxy: FaultProxy) -> None:
        load.stored(300)
        proxy.stall()
        wait_until("the connection is given up", lambda: "Cannot reach postgresql://" in caplog.text, 60)
        assert load.in_table() >= len(load.answered)
        proxy.pass_through()

    _behind(trouble, place, postgres)


@pytest.mark.row("ST20", "P22")
def test_nothing_is_lost_when_connections_are_reset(place: Place, postgres: Postgres) -> None:
    def trouble(load: Load, proxy: FaultProxy) -> None:
        for number in range(200, 2200, 400):
            load.stored(number)
            wait_until("a connection is cut", lambda: proxy.rst() > 0, 60)
        load.stored(2300)
        proxy.cut_after(20_000)

    _behind(trouble, place, postgres)


@pytest.mark.row("ST20")
def test_a_database_that_only_reads_is_asked_until_it_writes(
    place: Place, postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    """As after a failover, when the old primary comes back as a standby: other connections find the new one."""
    name = place.url.rpartition("/")[2]

    def trouble(load: Load) -> None:
        load.stored(300)
        postgres.query("postgres", f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        postgres.query("postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", name)
        wait_until("a write is refused", lambda: "refuses results" in caplog.text, 60)
        postgres.query("postgres", f"ALTER DATABASE {name} SET default_transaction_read_only = off")

    load = Load(place)
    load.run(trouble)
    load.check()


@pytest.mark.row("ST20")
def test_a_deadlock_is_repeated(place: Place, postgres: Postgres, caplog: pytest.LogCaptureFixture) -> None:
    """Two transactions wait for each other, and the server ends one of them: sooner or later the store's."""
    outcomes: list[StoreOutcome] = []
    rounds = 0
    while "deadlock detected" not in caplog.text:
        rounds += 1
        assert rounds < 20
        uvloop.run(_contend(place, postgres, outcomes))
    assert outcomes == [StoreOutcome.STORED] * 4 * rounds
    assert place.rows("SELECT result FROM celery_taskmeta WHERE task_id IN ('t1', 't2')") == [(b'"again"',)] * 2


async def _contend(place: Place, postgres: Postgres, outcomes: list[StoreOutcome]) -> None:
    """Write t1 and t2, while another transaction has t2 and wants t1."""
    store = open_store(place.backend, store_settings(Settings({"result_backend": place.backend})))
    await store.start()
    try:
        for result in ("once", "again"):
            other = psycopg.connect(place.url.replace("+psycopg", ""))
            if result == "again":
                # Whoever waits longer than this looks for a deadlock, and ends itself if there is one.
                other.execute("SET deadlock_timeout = '5s'")
                other.execute("UPDATE celery_taskmeta SET status = 'X' WHERE task_id = 't2'")
            for task_id in ("t1", "t2"):
                store.store(row(task_id, result=result), outcomes.append)
            if result == "again":
                await asyncio.to_thread(_want_the_other, place, postgres, other)
            assert await store.drain(time.monotonic() + 60)
            other.close()
    finally:
        await store.stop(time.monotonic() + 10)


def _want_the_other(place: Place, postgres: Postgres, other: psycopg.Connection[Any]) -> None:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'"
    name = place.url.rpartition("/")[2]
    wait_until("the store waits for a row", lambda: postgres.query("postgres", waiting, name) == [(1,)], 60)
    with contextlib.suppress(psycopg.errors.DeadlockDetected):
        other.execute("UPDATE celery_taskmeta SET status = 'X' WHERE task_id = 't1'")
    other.rollback()


@pytest.mark.row("ST20")
def test_a_locked_sqlite_is_asked_until_it_is_free(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "results.db"
    place = Place("sqlite", f"sqlite:///{file}")

    def trouble(load: Load) -> None:
        load.stored(300)
        with contextlib.closing(sqlite3.connect(file, isolation_level=None, timeout=60)) as other:
            other.execute("BEGIN IMMEDIATE")
            wait_until("a write is refused", lambda: "database is locked" in caplog.text, 60)
            other.execute("COMMIT")

    load = Load(place, database_engine_options={"connect_args": {"timeout": 0.05}})
    load.run(trouble)
    load.check()


def test_a_password_is_not_logged_and_results_wait(caplog: pytest.LogCaptureFixture) -> None:
    backend = "db+postgresql+psycopg://user:hush@127.0.0.1:1/d"

    async def run() -> None:
        store = open_store(backend, store_settings(Settings({"result_backend": backend})))
        await store.start()
        outcomes: list[StoreOutcome] = []
        store.store(row("left-over"), outcomes.append)
        assert not await store.drain(time.monotonic() + 0.3)
        await store.stop(time.monotonic())
        assert outcomes == [StoreOutcome.FAILED]

    uvloop.run(run())
    assert "Cannot reach postgresql://" in caplog.text
    assert "left-over" in caplog.text
    assert "hush" not in caplog.text
