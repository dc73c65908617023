"""An app for both APIs. CANVAS_API names the package, BROKER and RESULTS the servers."""

from __future__ import annotations

import importlib
import os
from typing import Any

api = importlib.import_module(os.environ.get("CANVAS_API", "turbo"))
app = api.Celery("canvas", broker=os.environ.get("BROKER"), backend=os.environ.get("RESULTS"), set_as_current=False)


@app.task(name="canvas.add", shared=False)
def add(x: int, y: int = 0) -> int:
    return x + y


@app.task(name="canvas.total", shared=False)
def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task(name="canvas.echo", shared=False)
def echo(*args: Any) -> list[Any]:
    return list(args)


@app.task(name="canvas.fail", shared=False)
def fail(*args: Any) -> None:
    raise KeyError("on purpose")


@app.task(name="canvas.report", shared=False, bind=True)
def report(self: Any, *args: Any) -> dict[str, Any]:
    names = ("id", "root_id", "parent_id", "group", "group_index", "replaced_task_nesting", "stamps")
    return {**{name: getattr(self.request, name) for name in names}, "args": list(args)}


@app.task(name="canvas.become", shared=False, bind=True)
def become(self: Any, kind: str, *args: int) -> Any:
    """Replace the task by a call, a chain, a group, a chord, or a chain that ends with a group."""
    parts = [add.s(number, 1) for number in args]
    made = {
        "call": lambda: echo.s(*args),
        "chain": lambda: add.s(args[0], 1) | add.s(10),
        "group": lambda: api.group(parts),
        "chord": lambda: api.chord(parts, total.s()),
        "chain of group": lambda: add.s(args[0], 1) | api.group(add.s(1), add.s(2)),
    }[kind]()
    return self.replace(made)


@app.task(name="canvas.handle", shared=False)
def handle(kind: str) -> Any:
    """Return the result handle of a call or a group, or an object with its own JSON form."""
    made = {
        "call": lambda: add.delay(1, 1),
        "group": lambda: api.group(add.s(1, 1), add.s(2, 2)).delay(),
        "own": Described,
    }[kind]()
    return made


class Described:
    """An object that defines its own JSON form."""

    def __json__(self) -> Any:
        return {"described": True}


@app.task(name="canvas.tell", shared=False)
def tell(failed_id: str) -> str:
    """An error callback of the old style, which returns its argument."""
    return failed_id


class Tenant(app.Task):  # type: ignore[name-defined, misc]
    """A task class whose messages name their owner."""

    def apply_async(self, args: Any = None, kwargs: Any = None, *rest: Any, **options: Any) -> Any:
        options["headers"] = {**(options.get("headers") or {}), "tenant": "acme"}
        return super().apply_async(args, kwargs, *rest, **options)

    def shadow_name(self, args: Any, kwargs: Any, options: Any) -> str:
        return "shadowed"


@app.task(name="canvas.whose", shared=False, bind=True, base=Tenant)
def whose(self: Any, *args: Any) -> list[Any]:
    return [(self.request.headers or {}).get("tenant"), self.request.shadow]


class Marked(app.Task):  # type: ignore[name-defined, misc]
    """A task class whose replacements get an additional argument."""

    def on_replace(self, sig: Any) -> Any:
        return super().on_replace(sig.clone(("marked",)))


@app.task(name="canvas.become_marked", shared=False, bind=True, base=Marked)
def become_marked(self: Any, number: int) -> Any:
    return self.replace(echo.s(number))


@app.task(name="canvas.join_in", shared=False, bind=True)
def join_in(self: Any, number: int) -> int:
    """A part of a chord that adds another part to the chord."""
    self.add_to_chord(add.s(number, number))
    return number


@app.task(name="canvas.spread", shared=False, bind=True)
def spread(self: Any, number: int) -> str:
    """Send a chord in a task; return the id of its body."""
    result = api.chord([add.s(each, each) for each in range(number)], total.s()).apply_async()
    body: str = result.id
    return body
