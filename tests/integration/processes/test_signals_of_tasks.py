"""Tasks that block signals or take their handlers: what comes after them is as it was before."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.adopted.place import READY, Place
from tests.integration.processes.conftest import HEAD

APP = """
if os.environ.get("LIB") == "celery":
    from celery.exceptions import SoftTimeLimitExceeded
else:
    from turbo.exceptions import SoftTimeLimitExceeded

SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1]


@app.task(name="proj.block")
def block():
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


@app.task(name="proj.take")
def take():
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@app.task(name="proj.found")
def found():
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    return sorted(mask), [str(getattr(signal.getsignal(each), "__name__", "other")) for each in SIGNALS]


@app.task(name="proj.limited", soft_time_limit=1.0, time_limit=60)
def limited():
    try:
        time.sleep(50)
    except SoftTimeLimitExceeded:
        return "told"
    return "never told"
"""


@pytest.mark.row("PL6")
def test_limits_are_heard_after_a_task_that_changed_signals(place: Place, lib: str) -> None:
    place.write(APP, head=HEAD)
    with place.worker("-c", "1", env={"LIB": lib}) as worker:
        worker.wait_for_line(READY)

        def ask(name: str) -> Any:
            return place.client.send_task(f"proj.{name}", queue="celery").get(timeout=60)

        before = ask("found")
        assert before[0] == []
        for change in ("block", "take"):
            ask(change)
            assert ask("found") == before
            ask(change)
            assert ask("limited") == "told"
            # Two in a row, with no rest of the child between them.
            both = [place.client.send_task(f"proj.{name}", queue="celery") for name in (change, "limited")]
            assert [each.get(timeout=60) for each in both] == [None, "told"]
        worker.terminate()
        assert worker.wait(60) == 0
