"""The queues that the worker is to consume from, which may change while it runs.

Written in the master by ``master.delivery.queue_changes``; read by ``amqp.consume.link``, which consumes them in each
session. It must never talk to the broker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from turbo.amqp.topology import Queue


class WantedQueues(dict[str, "Queue"]):
    """Queues by name, in the order of configuration; some of them may be paused."""

    def __init__(self, queues: Iterable[Queue]) -> None:
        super().__init__((queue.name, queue) for queue in queues)
        self._paused: set[str] = set()

    @property
    def paused(self) -> list[str]:
        """The names of paused queues."""
        return sorted(self._paused.intersection(self))

    def pause(self, name: str) -> None:
        """Do not consume a queue until :meth:`resume`, unless its consumer must stay."""
        self._paused.add(name)

    def resume(self, name: str) -> None:
        """Consume a queue again, if it is one of these."""
        self._paused.discard(name)

    def to_consume(self) -> dict[str, Queue]:
        """Return all queues but the paused ones whose consumer can end."""
        return {name: queue for name, queue in self.items() if name not in self._paused or queue.keeps_consumer}
