"""Canvas: type checkers see the kinds of calls, and the result of a call as Any."""

from __future__ import annotations

from turbo import Turbo, chain, chord, group
from turbo.canvas import StampingVisitor
from turbo.result import GroupResult

app = Turbo("downstream")


@app.task
def add(x: int, y: int = 0) -> int:
    return x + y


@app.task
def total(numbers: list[int]) -> int:
    return sum(numbers)


class Visitor(StampingVisitor):
    def on_signature(self, sig: object, **headers: object) -> dict[str, str]:
        return {"kind": type(sig).__name__}


async def canvases() -> list[int]:
    steps = add.s(1, 2) | add.s(3)
    steps |= total.si([1])
    result: int = steps.delay().get()
    both = group(add.s(number) for number in range(3))
    both.skew(1).tasks.append(add.s(4))
    members: GroupResult = both()
    members.completed_count("none")  # error
    body = chord([add.s(1)], total.s()).stamp(Visitor(), customer="acme")
    body.bodies()  # error
    chain(add.s(1), both, total.s()).on_error(add.si(1)).apply_async(countdown=1)
    await body.adelay()
    values: list[int] = await members.aget(timeout=1)
    return [result, *values, *add.chunks([(1, 2)], 1)().get()]
