"""The app of these tests: tasks that end in every possible way, with every combination of ack options."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.harness.oracle_record import VARIABLE, record
from turbo import Turbo
from turbo.exceptions import Ignore, Reject, SoftTimeLimitExceeded

if TYPE_CHECKING:
    from turbo import Task

#: Queues whose rejected messages go to DEAD, by the type of the queue.
CLASSIC, QUORUM, DEAD = "classic", "quorum", "dead"
_TO_DEAD = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": DEAD}

app = Turbo("ways", broker=os.environ.get("WAYS_BROKER"), backend=os.environ.get("WAYS_BACKEND"))
app.conf.task_queues = {
    CLASSIC: {"exchange": CLASSIC, "routing_key": CLASSIC, "queue_arguments": _TO_DEAD},
    QUORUM: {"exchange": QUORUM, "routing_key": QUORUM, "queue_arguments": {**_TO_DEAD, "x-queue-type": "quorum"}},
}
app.conf.task_default_queue = CLASSIC
app.conf.result_expires = 3600


def _times_before(identifier: str) -> int:
    """Record a start of this task; return how often it was started before, in any process."""
    place = Path(os.environ[VARIABLE] + ".starts")
    place.mkdir(exist_ok=True)
    count = len(list(place.glob(f"{identifier}.*")))
    (place / f"{identifier}.{count}").touch()
    return count


def _spin() -> None:
    while True:
        pass


def act(self: Task, how: str, *more: Any) -> object:
    """End in the way ``how``; requeued tasks return on their second start."""
    before = _times_before(self.request.id)
    record("start", self.request.id, before)
    if self.request.delivery_info["redelivered"]:
        record("redelivered", self.request.id, before)
    if before and not how.startswith(("always", "return")):
        return Path(more[-1]).read_text() if more else "second"
    return _WAYS[how](self, *more)


def _raise(_task: Task) -> None:
    raise ValueError("boom")


def _retry(task: Task) -> None:
    raise task.retry(countdown=0)


def _ignore(_task: Task) -> None:
    raise Ignore


def _reject(_task: Task) -> None:
    raise Reject("not mine", requeue=False)


def _requeue(_task: Task) -> None:
    raise Reject("not now", requeue=True)


def _hang(_task: Task, _fifo: str = "") -> None:
    _spin()


def _catch_soft(_task: Task) -> str:
    try:
        _spin()
    except SoftTimeLimitExceeded:
        return "caught"
    return "never"


def _die(_task: Task) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _leave(_task: Task) -> None:
    raise SystemExit(3)


def _count_in_c(_task: Task) -> int:
    return sum(range(10**10))


def _mask_everything(_task: Task) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    _spin()


def _swallow_everything(_task: Task) -> None:
    while True:
        try:
            _spin()
        except BaseException:  # noqa: BLE001 - the point of it
            continue


def _have_children(task: Task) -> None:
    sleeper = subprocess.Popen(["sleep", "999"])
    record("grandchild", task.request.id, sleeper.pid)
    sleeper.wait()


def _wait_for(_task: Task, fifo: str) -> str:
    return Path(fifo).read_text()


_hoard: list[bytearray] = []


def _grow(task: Task, megabytes: int, fifo: str | None = None) -> None:
    _hoard.append(bytearray(b"x" * (megabytes * 2**20)))
    record("grown", task.request.id)
    if fifo is not None:
        Path(fifo).read_text()


_WAYS: dict[str, Any] = {
    "return": lambda _task: "done",
    "raise": _raise,
    "retry": _retry,
    "ignore": _ignore,
    "reject": _reject,
    "requeue": _requeue,
    "hang": _hang,
    "catch soft": _catch_soft,
    "die": _die,
    "always die": _die,
    "always hang": _hang,
    "leave": _leave,
    "count in C": _count_in_c,
    "mask": _mask_everything,
    "swallow": _swallow_everything,
    "have children": _have_children,
    "wait": _wait_for,
    "grow": _grow,
    "always grow": _grow,
}

#: The options that refuse to acknowledge whatever can be refused.
_STRICT = {"acks_on_failure": False, "acks_on_timeout": False, "reject_on_worker_lost": True}

for _name, _options in {
    "early": {},
    "early strict": _STRICT,
    "late": {"acks_late": True},
    "late strict": {"acks_late": True, **_STRICT},
    "late both": {"acks_late": True, "acks_on_failure_or_timeout": False},
    "counted": {"retry_on_worker_lost": True, "max_retries": 1},
    "late counted": {"acks_late": True, "retry_on_worker_lost": True, "max_retries": 1},
    "late strict counted": {
        "acks_late": True,
        "reject_on_worker_lost": True,
        "retry_on_worker_lost": True,
        "max_retries": 1,
    },
    "tracked": {"track_started": True, "acks_late": True},
    "limited": {"time_limit": 1.5},
    "softly": {"soft_time_limit": 1.0},
    "long": {"time_limit": 30.0, "soft_time_limit": 25.0},
}.items():
    app.task(bind=True, name=_name, default_retry_delay=0, **_options)(act)


@app.task(bind=True, name="coroutine")
async def _coroutine(self: Task, path: str) -> str:
    record("start", self.request.id)
    while not Path(path).exists():
        await asyncio.sleep(0.01)
    return "in time"
