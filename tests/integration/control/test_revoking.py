"""Revoked tasks: never begun, or ended where they run."""

from __future__ import annotations

import pytest
from celery.canvas import StampingVisitor

from tests.harness.processes import wait_until
from tests.integration.control.conftest import NODE, Post


class Marked(StampingVisitor):
    """Stamps whatever it is shown."""

    def on_signature(self, _signature: object, **_headers: object) -> dict[str, object]:
        """The stamp."""
        return {"batch": "b7", "stamped_headers": ["batch"]}


@pytest.mark.row("TM7", "TM8", "RC16", "RC7")
def test_what_was_revoked_before_it_arrives_is_discarded(post: Post) -> None:
    ids = ["revoked-1", "revoked-2"]
    assert post.ask("revoke", task_id=ids)["ok"] in (
        "tasks {'revoked-1', 'revoked-2'} flagged as revoked",
        "tasks {'revoked-2', 'revoked-1'} flagged as revoked",
    )
    assert set(ids) <= set(post.ask("revoked"))
    for identifier in ids:
        post.send("wait", "/nonexistent", task_id=identifier)
    for identifier in ids:
        post.wait_state(identifier, "REVOKED")
        result = post.client.AsyncResult(identifier).result
        assert (type(result).__name__, str(result)) == ("TaskRevokedError", "revoked")
    wait_until("the messages are acknowledged", lambda: post.left() == 0, 60)


@pytest.mark.row("TM7")
def test_what_waits_or_is_held_is_discarded_at_once(post: Post) -> None:
    fifos = [post.fifo(), post.fifo()]
    running = [post.send("wait", str(fifo)) for fifo in fifos]
    for identifier in running:
        post.wait_active(identifier)
    waiting = post.send("noop")
    kept = post.client.send_task("controlled.wait", ["/dev/null"])
    held = post.send("noop", countdown=3600)
    wait_until("two wait", lambda: len(post.ask("reserved")) == 2, 60)
    wait_until("one is held", lambda: len(post.ask("scheduled")) == 1, 60)
    post.celery(("control", "-t", "20", "-d", NODE, "revoke", waiting, held))
    wait_until("one waits", lambda: [row["id"] for row in post.ask("reserved")] == [kept.id], 60)
    assert post.ask("scheduled") == []
    # what runs goes on, revoked or not
    assert post.ask("revoke", task_id=running[0])
    for fifo in fifos:
        fifo.write_text("done")
    for identifier in running:
        post.wait_state(identifier, "SUCCESS")
    assert kept.get(timeout=60) == ""
    wait_until("all is settled", lambda: post.left() == 0, 60)


@pytest.mark.row("TM10", "RC16", "RC17")
@pytest.mark.parametrize("how", ["default", "KILL", "SIGINT", "terminate"])
def test_a_running_task_is_terminated(post: Post, how: str) -> None:
    identifier = post.send("late", str(post.fifo()))
    pid = post.wait_active(identifier)["worker_pid"]
    if how == "terminate":
        reply = post.ask("terminate", signal="SIGTERM", task_id=[identifier])
    else:
        reply = post.ask("revoke", task_id=identifier, terminate=True, **({} if how == "default" else {"signal": how}))
    assert reply == {"ok": f"terminate: {identifier}"}
    post.wait_state(identifier, "REVOKED")
    assert str(post.client.AsyncResult(identifier).result) == "terminated"
    wait_until("another child is there", lambda: pid not in (p := post.pids()) and len(p) == 2, 60)
    wait_until("it is acknowledged", lambda: post.left() == 0, 60)
    # its place is taken: two tasks run beside one another
    fifos = [post.fifo(), post.fifo()]
    ids = [post.send("wait", str(fifo)) for fifo in fifos]
    for other in ids:
        post.wait_active(other)
    for fifo in fifos:
        fifo.write_text("done")
    for other in ids:
        post.wait_state(other, "SUCCESS")


@pytest.mark.row("TM10")
def test_a_task_that_holds_the_signal_off_is_killed(post: Post) -> None:
    place = post.directory / "holds-off"
    identifier = post.send("stubborn", str(place))
    wait_until("it holds signals off", place.exists, 60)
    assert post.ask("revoke", task_id=identifier, terminate=True) == {"ok": f"terminate: {identifier}"}
    post.wait_state(identifier, "REVOKED")
    wait_until("nothing runs", lambda: post.ask("active") == [], 60)


@pytest.mark.row("TM10")
def test_sigusr1_asks_by_the_exception_of_the_soft_limit(post: Post) -> None:
    place = post.directory / "asked"
    identifier = post.send("asked", str(place))
    wait_until("it runs", place.exists, 60)
    assert post.ask("revoke", task_id=identifier, terminate=True, signal="SIGUSR1")
    post.wait_state(identifier, "SUCCESS")
    assert post.client.AsyncResult(identifier).result == "SoftTimeLimitExceeded"


@pytest.mark.row("RC16")
def test_terminating_what_is_unknown_or_waits(post: Post) -> None:
    assert post.ask("revoke", task_id=["nobody"], terminate=True) == {"ok": "terminate: tasks unknown"}
    held = post.send("noop", countdown=3600)
    wait_until("it is held", lambda: len(post.ask("scheduled")) == 1, 60)
    assert post.ask("revoke", task_id=[held], terminate=True) == {"ok": f"terminate: {held}"}
    wait_until("it is not", lambda: post.ask("scheduled") == [], 60)


@pytest.mark.row("TM9")
def test_the_installed_celery_marks_what_nobody_has_begun(post: Post) -> None:
    post.ask("revoke", task_id="never-sent")
    if post.kind == "celery":
        post.wait_state("never-sent", "REVOKED")
    else:
        # turbo's own apps: when the message is met
        post.ask("ping")
        assert post.state("never-sent") == "PENDING"


@pytest.mark.row("TM11", "RC18")
def test_revoking_by_stamps(post: Post) -> None:
    reply = post.ask("revoke_by_stamped_headers", headers={"batch": "b7"})
    assert "flagged as revoked, but not terminated" in reply["ok"]
    signature = post.client.signature("controlled.late", ("/nonexistent",))
    signature.stamp(visitor=Marked())
    stamped = signature.apply_async()
    post.wait_state(stamped.id, "REVOKED")
    other = post.client.send_task("controlled.wait", ["/dev/null"])
    assert other.get(timeout=60) == ""
