"""The threads of a child: as many as are needed, and no more than there may be."""

from __future__ import annotations

import threading
from queue import SimpleQueue

from turbo.child.threads import Threads


def test_calls_run_at_once_up_to_the_limit_and_others_follow() -> None:
    threads = Threads(3)
    names: SimpleQueue[str] = SimpleQueue()
    gate = threading.Event()

    def call() -> None:
        names.put(threading.current_thread().name)
        gate.wait(30)

    for _ in range(5):
        threads.run(call)
    first = {names.get(timeout=30) for _ in range(3)}
    assert len(first) == 3
    assert names.empty(), "a fourth has begun"
    gate.set()
    assert {names.get(timeout=30) for _ in range(2)} <= first


def test_an_idle_thread_is_used_again() -> None:
    threads = Threads(8)
    names: SimpleQueue[str] = SimpleQueue()
    for _ in range(20):
        threads.run(lambda: names.put(threading.current_thread().name))
        assert names.get(timeout=30)
        # Its thread is idle a moment after its call; until then one more may be started.
        threads._idle.acquire(timeout=30)
        threads._idle.release()
    assert threads._started <= 2
