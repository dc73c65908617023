"""Checks the types of tasks in a Django project. A line that ends in ``# error`` must be an error."""

from __future__ import annotations

from typing import Any, assert_type

from turbo import AsyncResult
from turbo.contrib.django.task import DjangoTask, shared_task


@shared_task
def confirm(order: int) -> str:
    return str(order)


@shared_task(bind=True, acks_late=True)
def bound(self: DjangoTask, order: int) -> list[int]:
    return [order]


def calls() -> None:
    confirm.delay_on_commit(1)
    confirm.delay_on_commit("one")  # error
    confirm.apply_async_on_commit((1,), countdown=3)
    bound.delay_on_commit(order=1)
    bound.delay_on_commit()  # error
    assert_type(confirm.delay(1), AsyncResult[str])
    assert_type(bound(1), list[int])
    options: dict[str, Any] = {"queue": "slow"}
    confirm.apply_async_on_commit((1,), **options)
