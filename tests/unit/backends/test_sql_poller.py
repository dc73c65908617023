"""The thread that polls a database for many results."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence

import pytest

from turbo.backends.sql.poller import Poller

PATIENCE = 60


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_after_an_unexpected_error_the_next_watch_polls_for_all() -> None:
    faults = [ValueError("a fault of the test")]
    found: queue.SimpleQueue[str] = queue.SimpleQueue()
    failing: queue.SimpleQueue[threading.Thread] = queue.SimpleQueue()

    def ended(ids: Sequence[str]) -> list[str]:
        if faults:
            failing.put(threading.current_thread())
            raise faults.pop()
        return list(ids)

    poller = Poller(ended, lambda task_id: {"status": "SUCCESS", "task_id": task_id})
    poller.watch("a", lambda meta: found.put(meta["task_id"]))
    failing.get(timeout=PATIENCE).join(PATIENCE)
    poller.watch("b", lambda meta: found.put(meta["task_id"]))
    assert {found.get(timeout=PATIENCE), found.get(timeout=PATIENCE)} == {"a", "b"}
    poller.close()
