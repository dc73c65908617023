"""What a child needs to know of the worker and the app, frozen before the spawner is forked."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ChildOptions:
    """Everything in here is plain data: it crosses a fork. Limits in seconds, sizes in bytes."""

    hostname: str
    accept_content: frozenset[str]
    max_body_size: int
    time_limit: float | None
    soft_time_limit: float | None
    max_deliveries: int
    #: Tasks that are coroutines, at once.
    async_concurrency: int
    #: A result backend is configured.
    stores: bool
    result_serializer: str
    result_extended: bool
    #: Queues that the worker has declared.
    queues: frozenset[str]
    #: INFO lines are wanted.
    verbose: bool
