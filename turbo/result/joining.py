"""Refuses to wait for a result inside a task, unless the program allows it.

Called by ``AsyncResult.get``; has an effect in children only. A task that waits for another task occupies a child, and
enough of them block all children for ever. Celery refuses it in the same way.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from turbo import current

if TYPE_CHECKING:
    from collections.abc import Iterator

_allowed: ContextVar[bool | None] = ContextVar("turbo_joining_allowed", default=None)


def assert_will_not_block() -> None:
    """Raise RuntimeError in a task, unless ``allow_join_result`` is in force.

    Only tasks that a worker runs count.
    """
    allowed = _allowed.get()
    if allowed if allowed is not None else current.worker_frame() is None:
        return
    raise RuntimeError(
        "Never call result.get() within a task!\nIt can stop the whole pool; chain the tasks instead, or pass"
        " disable_sync_subtasks=False if you are sure."
    )


@contextmanager
def allow_join_result() -> Iterator[None]:
    """Allow the block to wait for results, even inside a task."""
    token = _allowed.set(True)
    try:
        yield
    finally:
        _allowed.reset(token)


@contextmanager
def denied_join_result() -> Iterator[None]:
    """Forbid the block to wait for results, even outside a task."""
    token = _allowed.set(False)
    try:
        yield
    finally:
        _allowed.reset(token)
