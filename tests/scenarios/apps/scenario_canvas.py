"""The tasks of the scenarios with groups, chains and chords."""

from __future__ import annotations

from typing import Any

from celery import chain, chord, group
from scenario_app import app
from scenario_tasks import add, early_fail, own_id, total


@app.task(bind=True, name="s.replace")
def replace(self: Any, x: int, to: str = "task") -> None:
    new = {
        "task": lambda: add.s(x, 100),
        "chain": lambda: chain(add.s(x, 100), add.s(1000)),
        "group": lambda: group(add.s(x, 100), add.s(x, 200)),
        "chord": lambda: chord([add.s(x, 100), add.s(x, 200)], total.s()),
        "twice": lambda: replace.s(x + 1, to="task"),
        "failure": lambda: early_fail.s("replaced"),
    }[to]()
    raise self.replace(new)


@app.task(bind=True, name="s.extend")
def extend(self: Any, x: int) -> int:
    self.add_to_chord(add.s(x, 10))
    return x


@app.task(bind=True, name="s.spawn_group")
def spawn_group(self: Any, x: int) -> Any:
    members = [add.s(x, y).set(**own_id(self, f"member{y}")) for y in (1, 2)]
    return [child.id for child in group(members).apply_async().children]


@app.task(bind=True, name="s.spawn_chain")
def spawn_chain(self: Any, x: int) -> str:
    steps = chain(add.s(x, 1).set(**own_id(self, "first")), add.s(10).set(**own_id(self, "last")))
    return str(steps.apply_async().id)
