"""Rate limits of a whole worker, set while it runs: what is limited waits in order, everything else goes past it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.worker import control

from tests.harness.processes import wait_until
from tests.integration.control.conftest import NODE, READY, Post

LIMITED = "controlled.when"


def limit(post: Post, rate: Any) -> None:
    """Change the limit of the task that these tests limit."""
    assert "ok" in post.ask("rate_limit", task_name=LIMITED, rate_limit=rate)


@pytest.fixture
def stopped(post: Post) -> Iterator[Post]:
    """The worker with one task that may start once an hour, and has just done so."""
    limit(post, "1/h")
    assert post.client.send_task(LIMITED).get(timeout=60)
    yield post
    limit(post, None)
    wait_until("all is settled", lambda: post.left() == 0, 60)


@pytest.mark.row("RC19", "TM15")
@pytest.mark.parametrize(
    "arguments",
    [
        {"task_name": LIMITED, "rate_limit": "1000/s"},
        {"task_name": LIMITED, "rate_limit": 1000},
        {"task_name": LIMITED, "rate_limit": "0"},
        {"task_name": LIMITED, "rate_limit": "often"},
        {"task_name": "controlled.nosuch", "rate_limit": "1/s"},
        {"task_name": LIMITED, "rate_limit": 0},
        {"task_name": LIMITED, "rate_limit": None},
    ],
)
def test_replies_are_celerys(post: Post, arguments: dict[str, Any]) -> None:
    app = Celery("theirs", set_as_current=False)

    @app.task(name=LIMITED, shared=False)
    def limited() -> None:
        """What Celery's command finds."""

    state = SimpleNamespace(app=app, consumer=SimpleNamespace(reset_rate_limits=lambda: None))
    assert post.ask("rate_limit", **arguments) == control.rate_limit(state, **arguments)


@pytest.mark.row("RC19", "RC3")
def test_the_limit_is_shown_with_its_task(post: Post) -> None:
    said = post.celery(("control", "-t", "20", "-d", NODE, "rate_limit", LIMITED, "30/m"))
    assert "new rate limit set successfully" in said[0]
    assert f"{LIMITED} [rate_limit=30/m]" in post.ask("registered")
    limit(post, None)
    assert LIMITED in post.ask("registered")


@pytest.mark.row("TM16", "RC19")
def test_starts_keep_their_distance(post: Post) -> None:
    limit(post, "3/s")
    # The first start may have been slow on its way; what was sent after this cannot have been released before.
    began = time.monotonic()
    sent = [post.client.send_task(LIMITED) for _ in range(7)]
    starts = [result.get(timeout=60) for result in sent]
    limit(post, None)
    assert starts[-1] - began >= (6 - 1 / 3) / 3, "six intervals"


@pytest.mark.row("TM19", "RC5", "RC12", "TM7")
def test_what_waits_lets_everything_else_pass_and_is_shown(stopped: Post) -> None:
    waiting = [stopped.send("when") for _ in range(60)]
    assert stopped.client.send_task("controlled.also").get(timeout=60)
    wait_until("all of them wait", lambda: len(stopped.ask("reserved")) == len(waiting), 60)
    assert {row["id"] for row in stopped.ask("reserved")} == set(waiting)
    assert stopped.ask("query_task", ids=waiting[7])[waiting[7]][0] == "reserved"
    # Messages of the consumer before count beside those of the present one, until the window is next adjusted.
    wait_until("all are in the window", lambda: stopped.ask("stats")["prefetch_count"] >= len(waiting), 60)
    assert stopped.ask("revoke", task_id=waiting[7])
    stopped.wait_state(waiting[7], "REVOKED")
    wait_until("it waits no longer", lambda: len(stopped.ask("reserved")) == len(waiting) - 1, 60)
    limit(stopped, "10000/m")
    for identifier in waiting[:7] + waiting[8:]:
        assert stopped.client.AsyncResult(identifier).get(timeout=60)


@pytest.mark.row("TM20", "RC6", "TM3")
def test_the_limit_comes_after_the_eta_and_the_expiry_after_both(stopped: Post) -> None:
    due = stopped.send("when", countdown=0.5)
    expired = stopped.send("when", countdown=0.5, expires=6)
    kept = stopped.send("when", countdown=3600)
    wait_until("all are held", lambda: len(stopped.ask("scheduled")) == 3, 60)
    later = stopped.client.send_task("controlled.also", countdown=7)
    assert later.get(timeout=60), "by now the other two are due, and one of them has expired"
    assert {row["request"]["id"] for row in stopped.ask("scheduled")} == {due, expired, kept}
    limit(stopped, "1000/s")
    stopped.wait_state(due, "SUCCESS")
    stopped.wait_state(expired, "REVOKED")
    assert stopped.ask("revoke", task_id=kept)
    stopped.wait_state(kept, "REVOKED")


@pytest.mark.row("TM17")
def test_each_worker_has_a_bucket_of_its_own(make_post: Any) -> None:
    post: Post = make_post("turbo")
    nodes = (NODE, "two@here")
    with post.worker("-c", "1") as one, post.worker("-c", "1", name=nodes[1]) as two:
        one.wait_for_line(READY, 60)
        two.wait_for_line(READY, 60)
        post.ask("rate_limit", *nodes, task_name=LIMITED, rate_limit="1/h")
        sent = [post.send("when") for _ in range(8)]

        def waiting() -> int:
            return sum(len(rows) for rows in post.ask("reserved", *nodes).values())

        wait_until("one has started in each", lambda: waiting() == len(sent) - 2, 60)
        wait_until("both have ended", lambda: [post.state(each) for each in sent].count("SUCCESS") == 2, 60)
        post.ask("rate_limit", *nodes, task_name=LIMITED, rate_limit=0)
        for identifier in sent:
            post.wait_state(identifier, "SUCCESS")


SUPERSET = """
from {library} import Celery

app = Celery("superset", broker={broker!r}, backend={backend!r})
app.conf.task_annotations = {{"sql_lab.get_sql_results": {{"rate_limit": {rate!r}}}}}
app.conf.task_default_rate_limit = "1000/s"
app.conf.broker_connection_retry_on_startup = True

import time


@app.task(name="sql_lab.get_sql_results")
def results():
    return time.monotonic()
"""


@pytest.mark.row("TM18", "TD18", "CF12", "CF19")
@pytest.mark.parametrize("library", ["turbo", "celery"])
@pytest.mark.parametrize("ignored", [False, True])
def test_limits_of_the_configuration(make_post: Any, tmp_path: Path, library: str, ignored: bool) -> None:
    post: Post = make_post(library)
    # One that is followed takes no time that a test could wait for, where it should not be.
    rate = "1/h" if ignored else "2/s"
    text = SUPERSET.format(library=library, broker=post.vhost, backend=post.client.conf.result_backend, rate=rate)
    if ignored:
        text += "\napp.conf.worker_disable_rate_limits = True\n"
    (post.directory / f"superset_{ignored}.py").write_text(text)
    with post.worker("-c", "2", "-A", f"superset_{ignored}") as worker:
        worker.wait_for_line(READY, 60)
        assert "effect" not in worker.output, "every setting is followed"
        began = time.monotonic()
        sent = [post.client.send_task("sql_lab.get_sql_results") for _ in range(5)]
        starts = [result.get(timeout=60) for result in sent]
        assert ignored or max(starts) - began >= (4 - 1 / 2) / 2
