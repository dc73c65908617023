"""Revoked ids that outlive their worker, which ends in order or is killed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.harness.processes import wait_until
from tests.integration.control.conftest import READY, Post
from turbo.protocol.worker_state import load


@pytest.mark.row("TM13", "CL20", "EV17")
@pytest.mark.parametrize("kind", ["turbo", "celery"])
@pytest.mark.parametrize("killed", [False, True], ids=["ended", "killed"])
def test_a_revoked_task_is_not_run_after_a_restart(make_post: Callable[[str], Post], kind: str, killed: bool) -> None:
    post = make_post(kind)
    file = post.directory / f"one-{killed}.state.turbo"
    options = ("-c", "1", "-S", str(post.directory / f"%n-{killed}.state"))
    with post.worker(*options) as worker:
        worker.wait_for_line(READY, 60)
        post.ask("revoke", task_id="revoked-before")
        clock = post.ask("clock")["clock"]
        if killed:
            wait_until("the id is written", lambda: "revoked-before" in load(file.read_bytes()).revoked, 60)
            worker.kill()
        else:
            worker.terminate()
        worker.wait(60)
    post.send("noop", task_id="revoked-before")
    with post.worker(*options) as worker:
        worker.wait_for_line(READY, 60)
        worker.wait_for_line(r"Discarding revoked task: controlled\.noop\[revoked-before\]", 60)
        assert post.ask("revoked") == ["revoked-before"]
        if not killed:
            assert post.ask("clock")["clock"] > clock
