"""Decides whether this code may wait for a task: inside a task only if it says so.

Called by ``AsyncResult.get``; acts in children, and never in a client. A task that waits for another occupies a child
of the pool meanwhile, and enough of them block the pool for ever. Celery refuses it in the same way.
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
    """Raise RuntimeError inside a task that a worker runs, unless ``allow_join_result`` is in force."""
    allowed = _allowed.get()
    if allowed if allowed is not None else current.worker_frame() is None:
        return
    raise RuntimeError(
        "Never call result.get() within a task!\nIt can stop the whole pool; chain the tasks instead, or pass"
        " disable_sync_subtasks=False if you are sure."
    )


@contextmanager
def allow_join_result() -> Iterator[None]:
    """Let the block wait for results wherever it runs."""
    token = _allowed.set(True)
    try:
        yield
    finally:
        _allowed.reset(token)


@contextmanager
def denied_join_result() -> Iterator[None]:
    """Forbid the block to wait for results wherever it runs."""
    token = _allowed.set(False)
    try:
        yield
    finally:
        _allowed.reset(token)
