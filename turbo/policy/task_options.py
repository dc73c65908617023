"""The frozen options of a task that the master needs.

Built once per worker from the app, before the master's loop starts, and handed to it: the master settles
messages of tasks that were killed, and so must know their ack options, but it must never import the app.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from turbo.policy.settling import AckOptions

if TYPE_CHECKING:
    from turbo.policy.batching import Batch


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """What settling and limiting a task depends on.

    ``None`` limits mean none; limits and delays are in seconds.
    """

    name: str
    acks_late: bool = False
    acks_on_failure: bool = True
    acks_on_timeout: bool = True
    reject_on_worker_lost: bool = False
    #: A task lost with its child is sent again like one that asked for it, up to ``max_retries`` (None: always).
    retry_on_worker_lost: bool = False
    max_retries: int | None = 3
    default_retry_delay: float = 180
    ignore_result: bool = False
    store_errors_even_if_ignored: bool = False
    time_limit: float | None = None
    soft_time_limit: float | None = None
    #: As the task has it; ``policy.rate_limit`` reads it.
    rate_limit: str | float | None = None
    #: Task events are sent for it, while the worker sends any.
    send_events: bool = True
    #: Its messages are collected and run in batches.
    batch: Batch | None = None

    def attributes(self) -> dict[str, Any]:
        """Return them as the attributes of a task."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "name"}

    def ack_options(self, *, acked: bool = False) -> AckOptions:
        """Return the options of the ack table.

        ``acked``: the message was acknowledged already.
        """
        return AckOptions(
            self.acks_late and not acked,
            self.acks_on_failure,
            self.acks_on_timeout,
            # A task whose lost attempts are counted ends when none is left, instead of going back uncounted.
            self.reject_on_worker_lost and not self.retry_on_worker_lost,
        )
