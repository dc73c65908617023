"""Checks the types of calls. A line that ends in ``# error`` must be an error; no other line may be one."""

from __future__ import annotations

from typing import Any, assert_type

from turbo import AsyncResult, Batch, BatchRequest, Task, Turbo, shared_task

app = Turbo("typed")


@app.task
def add(x: int, y: int = 0) -> int:
    return x + y


@app.task(name="named", time_limit=5)
def named(text: str, *, loud: bool) -> str:
    return text.upper() if loud else text


@app.task(bind=True, max_retries=2)
def bound(self: Task, x: int) -> list[int]:
    assert self.request.id is not None
    return [x]


@shared_task
def shared(x: int) -> None:
    return None


@shared_task(bind=True)
def shared_bound(self: Task, x: int) -> bytes:
    return b""


@app.task(batch=Batch(size=10, interval=1))
def batched(requests: list[BatchRequest]) -> list[int]:
    return [len(request.args) for request in requests]


class Mine(Task):
    def run(self, x: int) -> int:
        return x


assert_type(add.delay(1), AsyncResult[int])
assert_type(add.delay(1, y=2).get(timeout=1), int)
assert_type(add.apply_async((1, 2), countdown=3).get(), int)
assert_type(add(1, 2), int)
assert_type(named.delay("a", loud=True), AsyncResult[str])
assert_type(bound.delay(3).get(), list[int])
assert_type(shared.delay(1), AsyncResult[None])
assert_type(batched.delay(1, x=2), AsyncResult[Any])
assert_type(shared_bound.delay(1).get(), bytes)
assert_type(app.send_task("elsewhere").get(), Any)
result: AsyncResult = add.delay(1)

add.delay("1")  # error
add.delay()  # error
add.delay(1, 2, 3)  # error
add.delay(1, z=2)  # error
named.delay("a", True)  # error
bound.delay()  # error
bound.delay(1, 2)  # error
shared.delay(None)  # error
shared_bound.delay(b"")  # error
wrong: AsyncResult[str] = add.delay(1)  # error
