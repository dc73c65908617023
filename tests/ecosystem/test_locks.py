"""celery-once and celery-singleton: the client takes a lock in Redis, the worker's hooks give it back."""

from __future__ import annotations

import pytest

from tests.harness.celery_env import celery_producer
from tests.integration.adopted.place import READY, Place

APP = """
import time
from celery_once import AlreadyQueued, QueueOnce
from celery_singleton import Singleton

app.conf.ONCE = {"backend": "celery_once.backends.Redis",
                 "settings": {"url": os.environ["PROJ_BACKEND"], "default_timeout": 3600}}

def wait_for(name):
    while not os.path.exists(name):
        time.sleep(0.01)

@app.task(name="proj.once", base=QueueOnce)
def once(gate, fails=False):
    wait_for(gate)
    if fails:
        raise ValueError(gate)
    return gate

@app.task(name="proj.unlocked", base=QueueOnce, once={"unlock_before_run": True})
def unlocked(gate):
    open(gate + ".began", "w").close()
    wait_for(gate)
    return gate

@app.task(name="proj.single", base=Singleton)
def single(gate, fails=False):
    wait_for(gate)
    if fails:
        raise ValueError(gate)
    return gate
"""

CLIENT = '''
from pathlib import Path
import time
import pytest
from proj import AlreadyQueued, once, single, unlocked, wait_for

def in_the_end(what):
    """Locks are given back after the result is stored."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return what()
        except (AlreadyQueued, AssertionError):
            if time.monotonic() > deadline:
                raise
        time.sleep(0.02)

for fails in (False, True):
    gate = f"once-{fails}"
    first = once.delay(gate, fails)
    with pytest.raises(AlreadyQueued):
        once.delay(gate, fails)
    Path(gate).touch()
    first.get(timeout=30, propagate=False)
    second = in_the_end(lambda: once.delay(gate, fails))
    second.get(timeout=30, propagate=False)
    assert second.state == ("FAILURE" if fails else "SUCCESS")

first = unlocked.delay("unlocked")
wait_for("unlocked.began")
second = unlocked.delay("unlocked")
with pytest.raises(AlreadyQueued):
    unlocked.delay("unlocked")
Path("unlocked").touch()
assert [first.get(timeout=60), second.get(timeout=60)] == ["unlocked"] * 2

def another(sent, before):
    assert sent.id != before.id
    return sent

for fails in (False, True):
    gate = f"single-{fails}"
    first = single.delay(gate, fails)
    assert single.delay(gate, fails).id == first.id
    Path(gate).touch()
    first.get(timeout=30, propagate=False)
    second = in_the_end(lambda: another(single.delay(gate, fails), first))
    second.get(timeout=30, propagate=False)
    assert second.state == ("FAILURE" if fails else "SUCCESS")
print("done")
'''


@pytest.mark.row("EX6")
def test_locks_are_given_back_by_the_worker(place: Place) -> None:
    place.write(APP)
    with place.worker("-c", "1") as worker:
        worker.wait_for_line(READY, timeout=60)
        client = f"import os\nos.chdir({str(place.directory)!r})\n{CLIENT}"
        assert celery_producer("current", client, env=place.client_env).split() == ["done"]
        worker.terminate()
        assert worker.wait() == 0
