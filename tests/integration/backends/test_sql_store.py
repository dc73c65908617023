"""Results in SQLite, PostgreSQL and MariaDB: turbo's and Celery's backends write and read each other's rows."""

from __future__ import annotations

import json
import os
import pickle
import threading
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import celery
import pytest
import uvloop
from celery.app.task import Context

from tests.harness.processes import wait_until
from tests.integration.backends.databases import Place, row, write
from tests.unit.backends.store_contract import exercise_store
from turbo import Turbo
from turbo.app.conf.conf import Settings
from turbo.backends.open_store import open_store, store_settings
from turbo.backends.store import ResultWrite, StoreOutcome
from turbo.exceptions import ContentDisallowed, ImproperlyConfigured, TimeoutError
from turbo.result.group_result import GroupResult

ERROR = {"exc_type": "NoSuchError", "exc_message": ["a", 1], "exc_module": "no.such.module"}
STORED, KEPT, REFUSED = StoreOutcome.STORED, StoreOutcome.KEPT, StoreOutcome.REFUSED


@pytest.fixture
def ours(database: Place) -> Iterator[Turbo]:
    with Turbo("ours", broker="amqp://", backend=database.backend, set_as_current=False) as app:
        yield app
        app.backend.close()


@pytest.fixture
def theirs(database: Place) -> Iterator[celery.Celery]:
    app = celery.Celery("theirs", broker="memory://", backend=database.backend, set_as_current=False)
    yield app
    app.close()


@pytest.mark.row("ST20")
def test_the_contract_of_stores(database: Place) -> None:
    async def run() -> None:
        store = open_store(database.backend, store_settings(Settings({"result_backend": database.backend})))
        await exercise_store(store)

    uvloop.run(run())


@pytest.mark.row("ST20")
def test_both_make_the_same_tables(database: Place, theirs: celery.Celery) -> None:
    write(database, [row("a")], result_extended=True)
    made = {table: database.columns(table) for table in ("celery_taskmeta", "celery_tasksetmeta")}
    for table in made:
        database.rows(f"DROP TABLE {table}")
    if database.kind != "sqlite":
        for sequence in ("task_id_sequence", "taskset_id_sequence"):
            database.rows(f"DROP SEQUENCE IF EXISTS {sequence}")
    theirs.conf.result_extended = True
    theirs.backend.store_result("b", 1, "SUCCESS")
    assert {table: database.columns(table) for table in made} == made


@pytest.mark.row("ST20", "ST23")
@pytest.mark.parametrize("serializer", ["json", "pickle"])
def test_celery_reads_what_turbo_stores(database: Place, serializer: str) -> None:
    conf = {"result_serializer": serializer, "result_accept_content": [serializer]}
    extended = {
        "name": "add", "args": [1, {"a": None}], "kwargs": {"b": 2}, "worker": "w@h", "retries": 2, "queue": "q",
        "stamped_headers": ["tenant"], "tenant": "blue",
    }  # fmt: skip
    child = (("child", None), None)
    made = [
        row("done", "SUCCESS", {"a": [1, None, "ä€😀"]}, serializer, children=[child], extended=extended),
        row("none", "SUCCESS", None, serializer),
        row("failed", "FAILURE", ERROR, serializer, traceback="Traceback …"),
        row("retried", "RETRY", ERROR, serializer, traceback="Traceback …"),
        row(
            "revoked",
            "REVOKED",
            {**ERROR, "exc_type": "TaskRevokedError", "exc_module": "celery.exceptions"},
            serializer,
        ),
        row("started", "STARTED", {"pid": 1, "hostname": "w@h"}, serializer),
        row("custom", "PROGRESS", {"percent": 3}, serializer),
        # As the master writes it for a task that was killed.
        ResultWrite("killed", json.dumps({"status": "FAILURE", "result": ERROR, "traceback": None}).encode(), True),
    ]
    assert write(database, made, result_extended=True, **conf) == [STORED] * len(made)
    app = celery.Celery("theirs", broker="memory://", backend=database.backend, set_as_current=False)
    app.conf.update(result_extended=True, **conf)
    done = app.AsyncResult("done")
    assert done.get(timeout=60) == {"a": [1, None, "ä€😀"]}
    assert (done.name, done.args, done.kwargs, done.worker, done.retries, done.queue) == (
        "add", [1, {"a": None}], {"b": 2}, "w@h", 2, "q",
    )  # fmt: skip
    assert done.backend.get_task_meta("done")["tenant"] == "blue"
    assert [each.id for each in done.children] == ["child"]
    assert abs(done.date_done.replace(tzinfo=UTC) - datetime.now(UTC)) < timedelta(hours=1)
    assert app.AsyncResult("none").get(timeout=60) is None
    for task_id, state in (("failed", "FAILURE"), ("retried", "RETRY"), ("killed", "FAILURE")):
        result = app.AsyncResult(task_id)
        assert (result.state, type(result.result).__name__, result.result.args) == (state, "NoSuchError", ("a", 1))
        assert result.traceback == (None if task_id == "killed" else "Traceback …")
    assert app.AsyncResult("revoked").state == "REVOKED"
    assert app.AsyncResult("started").info == {"pid": 1, "hostname": "w@h"}
    assert app.AsyncResult("started").date_done is None
    assert (app.AsyncResult("custom").state, app.AsyncResult("custom").info) == ("PROGRESS", {"percent": 3})
    app.close()


@pytest.mark.row("ST20", "ST4", "ST31")
@pytest.mark.parametrize("serializer", ["json", "pickle"])
def test_turbo_reads_what_celery_stores(database: Place, serializer: str) -> None:
    conf = {"result_serializer": serializer, "result_accept_content": [serializer], "result_extended": True}
    theirs = celery.Celery("theirs", broker="memory://", backend=database.backend, set_as_current=False)
    theirs.conf.update(conf)
    ours = Turbo("ours", broker="amqp://", backend=database.backend, set_as_current=False, **conf)
    request = Context(
        task="add", args=[1], kwargs={}, hostname="w@h", retries=1, delivery_info={"routing_key": "q"}, children=[]
    )
    theirs.backend.store_result("done", {"a": "ä€😀"}, "SUCCESS", request=request)
    theirs.backend.store_result("none", None, "SUCCESS")
    theirs.backend.store_result("failed", ValueError("x", 1), "FAILURE", traceback="Traceback …")
    theirs.backend.store_result("custom", {"percent": 3}, "PROGRESS")
    done = ours.AsyncResult("done")
    assert done.get(timeout=60) == {"a": "ä€😀"}
    assert (done.name, done.args, done.kwargs, done.worker, done.retries, done.queue) == ("add", [1], {}, "w@h", 1, "q")
    assert done.date_done is not None and abs(done.date_done - datetime.now(UTC)) < timedelta(hours=1)
    assert ours.AsyncResult("none").get(timeout=60) is None
    failed = ours.AsyncResult("failed")
    with pytest.raises(ValueError) as caught:
        failed.get(timeout=60)
    assert caught.value.args == ("x", 1)
    assert failed.traceback == "Traceback …"
    assert (ours.AsyncResult("custom").state, ours.AsyncResult("custom").info) == ("PROGRESS", {"percent": 3})
    assert ours.AsyncResult("absent").state == "PENDING"
    ours.backend.close()
    ours.close()
    theirs.close()


@pytest.mark.row("ST20")
def test_a_success_stays_and_the_last_document_of_a_task_counts(database: Place, ours: Turbo) -> None:
    assert write(database, [row("a", result=1), row("b", "FAILURE", ERROR), row("c", "STARTED", None)]) == [STORED] * 3
    # In one batch: over rows that exist, over each other, and both.
    outcomes = write(database, [
        row("a", "FAILURE", ERROR), row("a", "RETRY", ERROR), row("b", result=2), row("b", "FAILURE", ERROR),
        row("c", "RETRY", ERROR), row("c", "FAILURE", ERROR), row("d", "STARTED", None), row("d", result=4),
        row("a", result=5), row("e", "STARTED", None), row("e", "RETRY", ERROR),
    ])  # fmt: skip
    assert [ours.AsyncResult(task_id).state for task_id in "abcde"] == [
        "SUCCESS",
        "SUCCESS",
        "FAILURE",
        "SUCCESS",
        "RETRY",
    ]
    assert [ours.AsyncResult(task_id).get(timeout=60) for task_id in "abd"] == [5, 2, 4]
    assert outcomes[3] is KEPT
    assert write(database, [row("a", "FAILURE", ERROR), row("f", "STARTED", None)]) == [KEPT, STORED]
    assert ours.AsyncResult("a").get(timeout=60) == 5
    ours.backend.store_result("a", ValueError("late"), "FAILURE")
    assert ours.AsyncResult("a").state == "SUCCESS"


@pytest.mark.row("ST20", "ST24")
def test_forgetting_and_expiry(database: Place, ours: Turbo, theirs: celery.Celery) -> None:
    write(database, [row("old"), row("new"), row("gone"), row("running", "STARTED", None)])
    ours.AsyncResult("gone").forget()
    assert theirs.AsyncResult("gone").state == "PENDING"
    GroupResult("old-group", [ours.AsyncResult("old")], app=ours).save()
    GroupResult("new-group", [ours.AsyncResult("new")], app=ours).save()
    past = (datetime.now(UTC).replace(tzinfo=None) - timedelta(days=2)).isoformat(" ", "microseconds")
    database.rows("UPDATE celery_taskmeta SET date_done = :past WHERE task_id = 'old'", past=past)
    database.rows("UPDATE celery_tasksetmeta SET date_done = :past WHERE taskset_id = 'old-group'", past=past)
    assert ours.tasks["celery.backend_cleanup"]() is None
    assert sorted(database.rows("SELECT task_id FROM celery_taskmeta")) == [("new",), ("running",)]
    assert database.rows("SELECT taskset_id FROM celery_tasksetmeta") == [("new-group",)]


@pytest.mark.row("ST20")
def test_groups_are_saved_for_both(database: Place, ours: Turbo, theirs: celery.Celery) -> None:
    mine = GroupResult(
        "mine", [ours.AsyncResult("a"), GroupResult("inner", [ours.AsyncResult("b")], app=ours)], app=ours
    )
    mine.save()
    mine.save()
    restored = theirs.GroupResult.restore("mine")
    assert [each.id for each in restored.results] == ["a", "inner"]
    theirs.GroupResult("yours", [theirs.AsyncResult("c")]).save()
    found = GroupResult.restore("yours", app=ours)
    assert found is not None and [each.id for each in found.results] == ["c"]
    found.delete()
    assert theirs.GroupResult.restore("yours") is None
    assert GroupResult.restore("absent", app=ours) is None


@pytest.mark.row("ST20")
def test_zero_bytes_surrogates_and_long_names(database: Place, ours: Turbo) -> None:
    """Celery's backend cannot store such a traceback in PostgreSQL at all."""
    text = "a\0b\ud800c"
    extended = {
        "name": "n\0" * 100,
        "args": [text],
        "kwargs": {},
        "worker": "w" * 300,
        "retries": 0,
        "queue": "q" * 300,
    }
    made = [row("done", "SUCCESS", text, extended=extended), row("failed", "FAILURE", ERROR, traceback=text)]
    assert write(database, made, result_extended=True) == [STORED] * 2
    assert ours.AsyncResult("done").get(timeout=60) == text
    assert ours.AsyncResult("failed").traceback == "a\\x00b\\ud800c"
    ((name, worker, queue),) = database.rows("SELECT name, worker, queue FROM celery_taskmeta WHERE task_id = 'done'")
    assert (name, worker, queue) == (("n\\x00" * 100)[:155], "w" * 155, "q" * 155)


@pytest.mark.row("ST20")
def test_documents_of_16_megabytes(database: Place, ours: Turbo, caplog: pytest.LogCaptureFixture) -> None:
    large = "x" * (16 << 20)
    outcomes = write(database, [row("before"), row("large", result=large), row("after")])
    if database.kind == "mariadb":
        # Celery's columns there hold 64 KiB. A longer value is refused, not cut.
        assert outcomes == [STORED, REFUSED, STORED]
        assert "Result of task large not stored" in caplog.text
        database.rows("ALTER TABLE celery_taskmeta MODIFY result LONGBLOB")
        assert write(database, [row("large", result=large)]) == [STORED]
    else:
        assert outcomes == [STORED] * 3
    assert ours.AsyncResult("large").get(timeout=60) == large
    assert [ours.AsyncResult(task_id).get(timeout=60) for task_id in ("before", "after")] == [42, 42]


@pytest.mark.row("ST20")
def test_what_is_larger_than_a_packet_of_mysql_fails_alone(mariadb: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The server closes the connection at such a statement, so it must not be sent again and again."""
    place = Place("mariadb", mariadb.url(mariadb.new_database()))
    write(place, [row("first")])
    place.rows("ALTER TABLE celery_taskmeta MODIFY result LONGBLOB")
    ((usual,),) = mariadb.query("SELECT @@max_allowed_packet")
    mariadb.query("SET GLOBAL max_allowed_packet = 1048576")
    try:
        made = [row("before"), row("large", result="x" * 1_100_000), row("quoted", result="'" * 300_000), row("after")]
        assert write(place, [*made, row("fits", result="x" * 500_000)]) == [STORED, REFUSED, REFUSED, STORED, STORED]
    finally:
        mariadb.query(f"SET GLOBAL max_allowed_packet = {usual}")
    assert "Result of task large not stored: larger than half of max_allowed_packet" in caplog.text
    assert sorted(place.rows("SELECT task_id FROM celery_taskmeta")) == [("after",), ("before",), ("first",), ("fits",)]


def test_a_table_in_another_character_set_gets_escapes(mariadb: Any, caplog: pytest.LogCaptureFixture) -> None:
    name = mariadb.new_database()
    mariadb.query(f"ALTER DATABASE {name} CHARACTER SET latin1")
    place = Place("mariadb", mariadb.url(name))
    made = [row("before"), row("failed", "FAILURE", ERROR, traceback="ä😀"), row("after")]
    assert write(place, made) == [STORED] * 3
    assert place.rows("SELECT traceback FROM celery_taskmeta WHERE task_id = 'failed'") == [("\\xe4\\U0001f600",)]


@pytest.mark.row("ST20", "CF24")
def test_names_and_schemas_are_settings(postgres: Any) -> None:
    place = Place("postgresql", postgres.url(postgres.new_database()))
    place.rows("CREATE SCHEMA apart")
    conf: dict[str, Any] = {
        "database_table_names": {"task": "my_tasks", "group": "my_groups"},
        "database_table_schemas": {"task": "apart", "group": "apart"},
        "database_short_lived_sessions": True,
        "database_create_tables_at_setup": False,
        "database_engine_options": {"pool_pre_ping": True, "connect_args": {"application_name": "results"}},
    }
    assert write(place, [row("a"), row("b")], **conf) == [STORED] * 2
    with Turbo("ours", broker="amqp://", backend=place.backend, set_as_current=False, **conf) as app:
        assert app.AsyncResult("a").get(timeout=60) == 42
        GroupResult("g", [app.AsyncResult("a")], app=app).save()
        app.backend.close()
    assert sorted(place.rows("SELECT task_id FROM apart.my_tasks")) == [("a",), ("b",)]
    assert place.rows("SELECT taskset_id FROM apart.my_groups") == [("g",)]


@pytest.mark.row("ST20")
def test_tables_of_older_versions_get_their_columns(database: Place, ours: Turbo) -> None:
    """Celery 5.3 made no column for children, and none of the extended ones unless they were asked for."""
    write(database, [row("a")])
    database.rows("ALTER TABLE celery_taskmeta DROP COLUMN children")
    assert write(database, [row("b", extended={"name": "add", "args": [], "kwargs": {}, "worker": "w", "retries": 0,
                                               "queue": "q"})], result_extended=True) == [STORED]  # fmt: skip
    assert database.rows("SELECT name, children FROM celery_taskmeta WHERE task_id = 'b'") == [("add", None)]
    assert ours.AsyncResult("a").get(timeout=60) == 42


@pytest.mark.row("ST20", "ST28")
def test_pickles_of_older_versions_and_compressed_results(database: Place, ours: Turbo) -> None:
    write(database, [row("a"), row("b")])
    database.rows("UPDATE celery_taskmeta SET result = :blob WHERE task_id = 'a'", blob=pickle.dumps({"x": 1}, 4))
    packed = b"\x00celery-compressed\x00application/x-gzip\x00" + zlib.compress(b'"small"')
    database.rows("UPDATE celery_taskmeta SET result = :blob WHERE task_id = 'b'", blob=packed)
    assert ours.AsyncResult("b").get(timeout=60) == "small"
    with pytest.raises(ContentDisallowed, match="add 'pickle' to result_accept_content"):
        ours.AsyncResult("a").get(timeout=60)
    accepting = Turbo("accepting", broker="amqp://", backend=database.backend, set_as_current=False)
    accepting.conf.result_accept_content = ["json", "pickle"]
    assert accepting.AsyncResult("a").get(timeout=60) == {"x": 1}
    accepting.backend.close()
    accepting.close()


@pytest.mark.row("ST20", "ST26")
def test_waiting_alone_together_and_in_vain(database: Place, ours: Turbo) -> None:
    with pytest.raises(TimeoutError):
        ours.AsyncResult("never").get(timeout=0.1)
    group = GroupResult("g", [ours.AsyncResult(f"t{number}") for number in range(700)], app=ours)
    got: list[Any] = []
    states: list[str] = []
    waiters = [
        threading.Thread(target=lambda: got.append(ours.AsyncResult("t0").get(timeout=60))),
        threading.Thread(target=lambda: got.append(sum(group.get(timeout=60)))),
        threading.Thread(
            target=lambda: ours.AsyncResult("t1").get(timeout=60, on_message=lambda meta: states.append(meta["status"]))
        ),
    ]
    for waiter in waiters:
        waiter.start()
    write(database, [row("t1", "STARTED", None)])
    wait_until("the waiter has seen that it runs", lambda: states == ["STARTED"], 60)
    write(database, [row(f"t{number}", result=number) for number in range(700)])
    for waiter in waiters:
        waiter.join(60)
    assert sorted(got) == [0, sum(range(700))]
    assert states == ["STARTED", "SUCCESS"]


def test_a_forked_client_opens_its_own_connections(database: Place, ours: Turbo) -> None:
    write(database, [row("a")])
    assert ours.AsyncResult("a").get(timeout=60) == 42
    pid = os.fork()
    if not pid:
        code = 1
        try:
            code = 0 if ours.AsyncResult("a").get(timeout=60) == 42 and group_of_one(ours) == [42] else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert ours.AsyncResult("a").get(timeout=60) == 42


def group_of_one(app: Turbo) -> Any:
    """Return the results of a group, which are waited for in a thread of the process."""
    return GroupResult("g", [app.AsyncResult("a")], app=app).get(timeout=60)


def test_a_chord_is_refused_before_anything_is_sent(database: Place, ours: Turbo) -> None:
    @ours.task(name="add")
    def add(x: int, y: int) -> int:
        raise AssertionError("nothing is sent")

    from turbo.canvas import chord

    with pytest.raises(NotImplementedError, match=r"does not support chords!\nIt cannot count .*: use redis://"):
        chord([add.s(1, 1), add.s(2, 2)], add.s(3))()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("db+sqlite://", "a database in memory belongs to one process"),
        ("db+sqlite:///:memory:", "a database in memory belongs to one process"),
        ("db+postgresql+asyncpg://h/d", "asyncpg is a driver for coroutines"),
        ("db+oracle://h/d", "in these databases: mariadb, mysql, postgresql, sqlite"),
        ("db+postgresql+nosuch://h/d", "nosuch"),
        ("db+mysql+pymysql://u:hush@h:port/d", "result_backend"),
    ],
)
def test_what_cannot_be_used_is_refused(url: str, why: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=why) as caught:
        open_store(url, store_settings(Settings({"result_backend": url})))
    assert "hush" not in str(caught.value)
