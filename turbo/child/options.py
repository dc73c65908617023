"""The settings of the worker and the app that a child needs.

Made in the command and frozen before the spawner is forked; read in every child. It must hold plain data only.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ChildOptions:
    """Plain data that crosses a fork. Limits in seconds, sizes in bytes."""

    hostname: str
    accept_content: frozenset[str]
    max_body_size: int
    time_limit: float | None
    soft_time_limit: float | None
    max_deliveries: int
    #: How many tasks that are coroutines run at once.
    async_concurrency: int
    #: How many tasks run at once where functions run in threads; 0: functions run one at a time.
    threads: int
    #: A result backend is configured.
    stores: bool
    result_serializer: str
    result_extended: bool
    #: Queues that the worker has declared.
    queues: frozenset[str]
    #: INFO lines are logged.
    verbose: bool
    #: Results are stored in a database, so documents are sent as rows (``protocol.result_row``).
    result_rows: bool = False
