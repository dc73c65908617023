"""Every row of the table of acknowledgements, against RabbitMQ, on a classic and on a quorum queue.

One worker runs them all, one after the other; each test finds the queues empty and leaves them so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.integration.worker.site import Site
from tests.integration.worker.tasks import CLASSIC, QUORUM

BILLIARD, CELERY = "billiard.exceptions", "celery.exceptions"


@pytest.fixture(scope="module", autouse=True)
def worker(site: Site) -> Iterator[None]:
    """The one worker. Its window never changes: on a quorum queue that would set the redelivered flag of what comes."""
    with site.running("-c", "2", "--prefetch-multiplier", "4"):
        yield


@pytest.fixture(params=[CLASSIC, QUORUM])
def queue(request: pytest.FixtureRequest) -> str:
    """Each kind of queue in turn."""
    name: str = request.param
    return name


@dataclass(frozen=True, slots=True)
class Row:
    """How a task ends, and what must come of it."""

    tasks: tuple[str, ...]
    how: str
    state: str | None
    #: Class and module of the stored exception, or the stored result.
    result: object = None
    starts: int = 1
    dead: bool = False
    options: dict[str, Any] = field(default_factory=dict)


ALL = ("early", "early strict", "late", "late strict")
EARLY = ("early", "early strict")
COUNTED = ("counted", "late counted", "late strict counted")
#: Seconds. A child that is kept from the first lines of its body for longer has no start to show.
HARD = {"time_limit": 1.0}
SOFT = {"soft_time_limit": 1.0}

ROWS = {
    "success": Row(ALL, "return", "SUCCESS", "done"),
    "exception": Row(("late", *EARLY), "raise", "FAILURE", ("ValueError", "builtins")),
    "exception not acked": Row(("late strict", "late both"), "raise", "FAILURE", ("ValueError", "builtins"), dead=True),
    "retry": Row(ALL, "retry", "SUCCESS", "second", starts=2),
    "ignore": Row(ALL, "ignore", None),
    "early reject": Row(EARLY, "reject", "FAILURE", ("Reject", CELERY)),
    "reject": Row(("late", "late strict"), "reject", "FAILURE", ("Reject", CELERY), dead=True),
    "early requeue": Row(EARLY, "requeue", None),
    "requeue": Row(("late", "late strict"), "requeue", "SUCCESS", "second", starts=2),
    "hard limit": Row(("late", *EARLY), "hang", "FAILURE", ("TimeLimitExceeded", BILLIARD), options=HARD),
    "soft limit caught": Row(("early", "late"), "catch soft", "SUCCESS", "caught", options=SOFT),
    "soft limit": Row(("late", "early"), "hang", "FAILURE", ("SoftTimeLimitExceeded", BILLIARD), options=SOFT),
    "soft limit not acked": Row(
        ("late strict",), "hang", "FAILURE", ("SoftTimeLimitExceeded", BILLIARD), dead=True, options=SOFT
    ),
    "child lost": Row(("late", *EARLY), "die", "FAILURE", ("WorkerLostError", BILLIARD)),
    "child lost, failures not acked": Row(("late both",), "die", "FAILURE", ("WorkerLostError", BILLIARD), dead=True),
    "child left": Row(("late", *EARLY), "leave", "FAILURE", ("WorkerLostError", BILLIARD)),
    "child lost not acked": Row(("late strict",), "die", "SUCCESS", "second", starts=2),
    "child lost and retried": Row(COUNTED, "die", "SUCCESS", "second", starts=2),
    "child lost too often": Row(COUNTED, "always die", "FAILURE", ("WorkerLostError", BILLIARD), starts=2),
    "unknown": Row(("nobody.knows",), "return", "FAILURE", ("NotRegistered", CELERY), starts=0, dead=True),
}
CASES = [pytest.param(row, task, id=f"{name}-{task}") for name, row in ROWS.items() for task in row.tasks]


def _summary(document: dict[str, Any]) -> object:
    result = document["result"]
    return (result["exc_type"], result["exc_module"]) if document["status"] != "SUCCESS" else result


@pytest.mark.row(
    "CN4", "CN5", "CN6", "CN7", "CN8", "CN9", "CN10", "PL17", "SP1", "SP3", "SP4", "ST31", "EX33", "WP21", "RT20"
)  # fmt: skip
@pytest.mark.parametrize(("row", "task"), CASES)
def test_row(site: Site, queue: str, row: Row, task: str) -> None:
    identifier = site.send(task, row.how, queue=queue, **row.options)
    if row.state is None:
        site.worker.wait_for_line(rf"{task}\[{identifier}\] (ignored|reject)")
        assert site.document(identifier) is None
    else:
        document = site.wait_document(identifier)
        assert (document["status"], _summary(document)) == (row.state, row.result)
        assert document["task_id"] == identifier
    site.wait_settled(queue)
    dead = site.dead_letters(int(row.dead))
    assert [(letter.id, letter.reason, letter.queue) for letter in dead] == [(identifier, "rejected", queue)] * row.dead
    assert site.starts(identifier) == row.starts
    # The same message again, put back by the broker or, after a death, by the master; a new attempt is a new message.
    again = row.how == "requeue" or (row.how == "die" and task not in COUNTED)
    assert (identifier in site.oracle.ids("redelivered")) == (again and row.starts == 2)


@pytest.mark.row("CN9", "CN10")
def test_hard_limit_not_acked_stores_the_failure_and_comes_back(site: Site, queue: str) -> None:
    fifo = site.fifo()
    identifier = site.send("late strict", "hang", str(fifo), queue=queue, **HARD)
    document = site.wait_document(identifier)
    assert _summary(document) == ("TimeLimitExceeded", BILLIARD)
    site.wait_started(identifier, 2)
    site.rabbitmq.wait_queue(queue, site.vhost, ready=0, unacked=1)
    fifo.write_text("in time now")
    site.wait_settled(queue)
    document = site.wait_document(identifier)
    assert (document["status"], document["result"]) == ("SUCCESS", "in time now")
    assert site.starts(identifier) == 2
    assert site.dead_letters(0) == []


@pytest.mark.row("CN4", "CN5")
@pytest.mark.parametrize(("task", "unacked"), [("early", 0), ("late", 1)])
def test_when_it_is_acknowledged(site: Site, queue: str, task: str, unacked: int) -> None:
    fifo = site.fifo()
    identifier = site.send(task, "wait", str(fifo), queue=queue)
    site.wait_started(identifier)
    site.rabbitmq.wait_queue(queue, site.vhost, ready=0, unacked=unacked)
    fifo.write_text("go on")
    assert site.wait_document(identifier)["result"] == "go on"
    site.wait_settled(queue)


@pytest.mark.row("ST2")
def test_started_is_stored_where_it_is_tracked(site: Site) -> None:
    fifo = site.fifo()
    identifier = site.send("tracked", "wait", str(fifo))
    pid = site.wait_started(identifier)
    fifo_open = fifo.open("w")
    try:
        document = site.document(identifier)
        while document is None:
            document = site.document(identifier)
        assert (document["status"], document["result"]["pid"]) == ("STARTED", pid)
    finally:
        fifo_open.close()
    assert site.wait_document(identifier)["status"] == "SUCCESS"
    site.wait_settled()


@pytest.mark.row("TM5")
@pytest.mark.parametrize("task", ["early", "late strict"])
def test_what_expired_before_its_start_is_acknowledged_and_revoked(site: Site, queue: str, task: str) -> None:
    identifier = site.send(task, "return", queue=queue, expires=datetime.now(UTC) - timedelta(seconds=1))
    document = site.wait_document(identifier)
    assert (document["status"], _summary(document)) == ("REVOKED", ("TaskRevokedError", CELERY))
    site.wait_settled(queue)
    assert site.dead_letters(0) == []
    assert site.starts(identifier) == 0


@pytest.mark.parametrize("task", ["early", "late"])
def test_a_body_that_cannot_be_decoded_is_dead_lettered(site: Site, queue: str, task: str) -> None:
    identifier = site.send_raw(b'[["return"], {}', queue, task=task)
    document = site.wait_document(identifier)
    assert (document["status"], _summary(document)) == ("FAILURE", ("DecodeError", "kombu.exceptions"))
    assert [letter.id for letter in site.dead_letters(1)] == [identifier]
    site.wait_settled(queue)
    assert site.starts(identifier) == 0
