"""Scenarios that need a worker with one child and waiting messages. Results are extended here."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from tests.scenarios.rows import acks, canvas, messages, tasks
from tests.scenarios.rows.acks import EXPIRED
from tests.scenarios.rows.canvas import CHORD
from tests.scenarios.scenario import Scenario, ended, ok

if TYPE_CHECKING:
    from tests.scenarios.place import Held
    from tests.scenarios.sending import Sending

PRIORITIES = {"low": 1, "middle": 5, "none": None, "high": 9}
REVOKED = ended("celery.exceptions.TaskRevokedError", "revoked", state="REVOKED")
TERMINATED = ended("celery.exceptions.TaskRevokedError", "terminated", state="REVOKED")
#: Rows of the other files that are run here too, for the fields that extended results have.
EXTENDED = {
    "success", "failure", "retry", "ignore", "reject_late", "soft", "hard", "lost", "expired", "unknown", "headers",
    "shadow", "stamped", "member_of_a_group", "pickle", "handlers", "ignored_failure_stored", "progress_left", "links",
    "chain", "chord", "replaced", "children",
}  # fmt: skip


def _priorities(to: Sending) -> None:
    for label, priority in PRIORITIES.items():
        options = {} if priority is None else {"priority": priority}
        to.send(label, "s.priority", queue="prio", **options)


def _wait_behind(to: Sending, held: Held, expires: float) -> datetime:
    """Keep the child busy while a message waits in the worker; return when it expires."""
    to.send("busy", "s.hold", queue=held.queue)
    held.wait_holding(to, "busy")
    when = datetime.now(UTC) + timedelta(seconds=expires)
    to.send("it", "s.add", 1, 2, queue=held.queue, headers={"expires": when.isoformat()})
    held.place.wait_recorded(to.id("it"), "received")
    return when


def _revoke_waiting(to: Sending, held: Held) -> None:
    _wait_behind(to, held, expires=600)
    held.place.control("revoke", task_id=to.id("it"))
    held.open(to, "busy")


def _revoke_scheduled(to: Sending, held: Held) -> None:
    to.send("it", "s.add", 1, 2, countdown=6)
    held.place.wait_recorded(to.id("it"), "received")
    held.place.control("revoke", task_id=to.id("it"))
    held.place.wait_recorded(to.id("it"), "revoked")


def _revoke_unseen(to: Sending, held: Held) -> None:
    held.place.control("revoke", task_id=[to.id("it"), to.id("other")])
    for label in ("it", "other", "kept"):
        to.send(label, "s.add", 1, 2)


def _terminate(to: Sending, held: Held) -> None:
    to.send("it", "s.hold", queue=held.queue)
    held.wait_holding(to, "it")
    held.place.control("revoke", task_id=to.id("it"), terminate=True, signal="SIGKILL")


def _part(to: Sending, it: Any) -> None:
    """Send a chord of another part and ``it``."""
    to.chord([to.sig("one", "s.add", 0, 1), it], to.sig("body", "s.total")).apply_async()


def _revoke_part(to: Sending, held: Held) -> None:
    held.place.control("revoke", task_id=to.id("it"))
    _part(to, to.sig("it", "s.add", 1, 2))


def _terminate_part(to: Sending, held: Held) -> None:
    _part(to, to.sig("it", "s.hold", queue=held.queue))
    held.wait_holding(to, "it")
    held.place.control("revoke", task_id=to.id("it"), terminate=True, signal="SIGKILL")


def _expire_waiting(to: Sending, held: Held) -> None:
    when = _wait_behind(to, held, expires=5)
    while datetime.now(UTC) <= when:
        time.sleep(0.05)
    held.open(to, "busy")


def _nothing(to: Sending) -> None:
    """Send nothing: everything is sent during the observation."""


ROWS = (
    Scenario(
        "priorities", _priorities, {"low": ok(1), "middle": ok(5), "none": ok(0), "high": ok(9)},
        order=("high", "middle", "low", "none"), early=True,
    ),
    Scenario("revoked_waiting", _nothing, {"it": REVOKED, "busy": ok("released")},
             heard={"it": ("master received", "master revoked")}, during=_revoke_waiting),
    Scenario("revoked_scheduled", _nothing, {"it": REVOKED}, heard={"it": ("master received", "master revoked")},
             during=_revoke_scheduled),
    Scenario("revoked_before_it_came", _nothing, {"it": REVOKED, "other": REVOKED, "kept": ok(3)},
             heard={"it": ("master revoked",)}, during=_revoke_unseen),
    Scenario("terminated", _nothing, {"it": TERMINATED},
             heard={"it": ("master received", "child prerun", "child holding", "master revoked")}, during=_terminate),
    Scenario("chord_revoked", _nothing, {"one": ok(1), "it": REVOKED, "body": CHORD}, during=_revoke_part, canvas=True),
    Scenario("chord_terminated", _nothing, {"one": ok(1), "it": TERMINATED, "body": CHORD}, during=_terminate_part,
             canvas=True),
    Scenario("expired_waiting", _nothing, {"it": EXPIRED, "busy": ok("released")},
             heard={"it": ("master received", "master revoked")}, during=_expire_waiting),
    *(
        each
        for each in (*acks.ROWS, *tasks.ROWS, *messages.ROWS, *canvas.ROWS)
        if each.name in EXTENDED
    ),
)  # fmt: skip
