"""A Celery client that sends every scenario to a fleet and prints the outcomes as one line of JSON.

Run as a script by the tests, with the app's folder on the path. ``left`` and ``right`` are queues that one worker each
consumes from, ``shared`` is everybody's: so a scenario says which of its steps run where.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from celery import chain, chord, group
from celery.result import AsyncResult, GroupResult
from fleet_app import (
    PAUSE,
    add,
    app,
    boom,
    complain,
    complain_later,
    due,
    echo,
    flaky,
    hop,
    instead,
    keep,
    meet,
    progress,
    size,
    store,
    total,
)

LEFT, RIGHT = "left", "right"
TIMEOUT = 50


def on(queue: str, signature: Any, **options: Any) -> Any:
    return signature.set(queue=queue, **options)


def steps(start: int, *queues: str) -> Any:
    """Return a chain that adds one on each of the queues in turn."""
    first, *rest = queues
    return chain(on(first, add.s(start, 1)), *(on(queue, add.s(1)) for queue in rest))


def both(count: int) -> list[Any]:
    return [on((LEFT, RIGHT)[number % 2], add.s(number, number)) for number in range(count)]


def later(seconds: float, queue: str) -> Any:
    eta = datetime.now(UTC) + timedelta(seconds=seconds)
    return due.apply_async((eta.timestamp(),), eta=eta, queue=queue)


def scenarios(run: str) -> dict[str, Any]:
    """Send every scenario; return the results by name."""
    return {
        "chain": steps(0, LEFT, RIGHT, LEFT, RIGHT, RIGHT, LEFT).delay(),
        "chain on the shared queue": chain(add.s(0, 1), *(add.s(1) for _ in range(9))).delay(),
        "group": group(both(8)).delay(),
        "chord": chord(both(6))(on(RIGHT, total.s())),
        "chord, body on the other side": chord(both(6))(on(LEFT, total.s())),
        "chord on the shared queue": chord([add.s(number, 1) for number in range(10)])(total.s()),
        "chord of chains": chord([steps(0, LEFT, RIGHT), steps(5, RIGHT, LEFT)])(on(LEFT, total.s())),
        "chord in a chord": chord([chord(both(4), on(LEFT, total.s())), chord(both(2), on(RIGHT, total.s()))])(
            on(LEFT, total.s())
        ),
        "chain of groups of chains": chain(
            group(steps(0, LEFT, RIGHT), steps(1, RIGHT, LEFT)),
            on(RIGHT, total.s()),
            group(on(LEFT, add.s(1)), on(RIGHT, add.s(2))),
            on(LEFT, total.s()),
        ).delay(),
        "chain that fails": chain(
            on(LEFT, echo.s("mid")), on(RIGHT, boom.s()), on(LEFT, echo.s()), on(RIGHT, echo.s())
        ).delay(),
        "chord whose header fails": chord([*both(2), on(LEFT, boom.s("header"))])(
            on(RIGHT, total.s()).on_error(on(RIGHT, complain.s(key=f"{run}:chord")))
        ),
        "callback": add.apply_async((1, 2), queue=LEFT, link=on(RIGHT, keep.s(f"{run}:link"))),
        "error callback": boom.apply_async(("x",), queue=LEFT, link_error=complain.s(key=f"{run}:error")),
        "error callback, the other side": boom.apply_async(
            ("x",), queue=RIGHT, link_error=complain.s(key=f"{run}:error too")
        ),
        "error callback sent": boom.apply_async(
            ("x",), queue=LEFT, link_error=on(RIGHT, complain_later.s(key=f"{run}:sent"))
        ),
        "error callback sent, the other way": boom.apply_async(
            ("x",), queue=RIGHT, link_error=on(LEFT, complain_later.s(key=f"{run}:sent too"))
        ),
        "replaced": instead.apply_async((1, RIGHT, LEFT), queue=LEFT),
        "replaced in a chord": chord([on(LEFT, instead.s(1, RIGHT, LEFT)), on(RIGHT, instead.s(5, LEFT, RIGHT))])(
            on(RIGHT, total.s())
        ),
        "chunks": on(LEFT, add.chunks([(number, number) for number in range(6)], 2)).apply_async(queue=RIGHT),
        "starmap": add.starmap([(2, 2), (4, 4)]).apply_async(queue=RIGHT),
        "retries that hop": hop.apply_async(([RIGHT, LEFT],), queue=LEFT),
        "retries on the shared queue": flaky.delay(2),
        "retries until there are none, on the shared queue": flaky.delay(9),
        "retries in a chord": chord([on(LEFT, hop.s([RIGHT])), on(RIGHT, hop.s([LEFT, RIGHT]))])(on(LEFT, total.s())),
        "eta": later(1.5, LEFT),
        "eta, the other side": later(1.5, RIGHT),
        "eta on the shared queue": later(1.2, "shared"),
        "countdown within a chain": chain(
            on(LEFT, add.s(1, 1)), on(RIGHT, add.s(1), countdown=2 * PAUSE), on(LEFT, add.s(1), countdown=PAUSE)
        ).delay(),
        "states": progress.apply_async(queue=LEFT),
        "states, the other side": progress.apply_async(queue=RIGHT),
        "two megabytes": chain(on(LEFT, echo.s("x" * 2_000_000)), on(RIGHT, size.s())).delay(),
        "pickle": size.apply_async(((1, Decimal(2), b"3"),), serializer="pickle", queue=LEFT),
        "pickle, the other side": size.apply_async(((1, Decimal(2), b"3"),), serializer="pickle", queue=RIGHT),
    }


def documents(result: Any) -> dict[str, dict[str, Any]]:
    """Return the stored documents of all tasks that can be reached from a result, by id."""
    found: dict[str, dict[str, Any]] = {}
    todo = [result]
    while todo:
        each = todo.pop(0)
        if isinstance(each, GroupResult):
            todo += each.results
        elif isinstance(each, AsyncResult) and each.id not in found:
            found[each.id] = json.loads(json.dumps(app.backend.get_task_meta(each.id), default=repr))
            todo += each.children or ()
        if each.parent is not None:
            todo.append(each.parent)
    return found


def runs(ids: Iterable[str]) -> list[str]:
    """Return ``worker task attempt`` of every run of these tasks and of those with one of them as root."""
    lines = {line.decode() for each in ids for line in store.lrange(f"ran:{each}", 0, -1)}
    return sorted(line.partition("|")[2] for line in lines)


def wait_for_key(key: str) -> str:
    deadline = time.monotonic() + TIMEOUT
    while (value := store.get(key)) is None:
        if time.monotonic() > deadline:
            return "never"
        time.sleep(0.02)
    return value.decode()


def main() -> None:
    run = uuid.uuid4().hex
    # Alone, while everybody is idle: a worker that is busy leaves them all to the other, and then they never meet.
    party = group(meet.s(run, 2) for _ in range(6)).delay()
    party.get(timeout=TIMEOUT)
    sent = {"group on the shared queue": party, **scenarios(run)}
    for name in ("states", "states, the other side"):
        deadline = time.monotonic() + TIMEOUT
        while sent[name].state != "HALF" and time.monotonic() < deadline:
            time.sleep(0.01)
        assert sent[name].info == {"done": 1}, sent[name].info
        store.set(f"seen:{sent[name].id}", 1)
    told = {}
    for name, result in sent.items():
        try:
            value = result.get(timeout=TIMEOUT, propagate=True)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what this scenario leads to
            value = f"{type(error).__name__}: {error}"
        found = documents(result)
        told[name] = {"value": value, "documents": list(found.values()), "ran": runs(found)}
    for key in ("chord", "link", "error", "error too", "sent", "sent too"):
        told[f"kept by {key}"] = {"value": wait_for_key(f"{run}:{key}"), "documents": [], "ran": []}
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    status = 1
    try:
        main()
        status = 0
    except Exception:  # noqa: BLE001 - printed, and said by the status
        traceback.print_exc()
    sys.stdout.flush()
    # Results that are still referred to would try, each with a traceback, to tell a store whose client is gone.
    os._exit(status)
