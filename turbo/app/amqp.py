"""``app.amqp``: the queues that an app knows and its worker's, as in Celery.

Used in the command: receivers of the worker's first signals change the selection here, after -Q and -X and before the
worker is planned. It must never talk to a broker.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from turbo.app.publish.queues import queue_from_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from turbo.amqp.topology import Queue
    from turbo.app.publish.routes import TaskRouter


class AppQueues(Mapping[str, "Queue"]):
    """The queues by name.

    Looking up an unknown name creates that queue, if the settings allow it.
    """

    def __init__(self, router: Callable[[], TaskRouter]) -> None:
        self._router = router
        #: The selected queues, instead of the configured ones; None if there is no selection.
        self._selected: list[str] | None = None
        #: Queues that the program has added, as given: the router forgets them when a setting changes.
        self._known: dict[str, Any] = {}
        #: The names of further queues to consume from.
        self._more: dict[str, None] = {}
        self._left_out: set[str] = set()

    def __getitem__(self, name: str) -> Queue:
        return self._router().queues[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._router().queues)

    def __len__(self) -> int:
        return len(self._router().queues)

    def __contains__(self, name: object) -> bool:
        return name in self._router().queues

    @property
    def aliases(self) -> Mapping[str, str]:
        """The names of queues by the other names that they have."""
        return self._router().queues.aliases

    def add(self, queue: Any, **options: Any) -> Queue:
        """Add a queue, given as one or by name with options as in ``task_queues``."""
        if isinstance(queue, str):
            queue = queue_from_options(queue, options)
        added = self._router().queues.add(queue)
        self._known[added.name] = queue
        return added

    def restore(self, router: TaskRouter) -> None:
        """Pass the queues of :meth:`add` to a new router."""
        for queue in self._known.values():
            router.queues.add(queue)

    def select(self, names: Iterable[str]) -> None:
        """Consume from these queues only."""
        self._selected = list(names)

    def select_add(self, queue: Any, **options: Any) -> Queue:
        """Consume from one more queue, given as for :meth:`add`."""
        added = self.add(queue, **options)
        self._more[added.name] = None
        return added

    def deselect(self, names: Iterable[str]) -> None:
        """Do not consume from these queues."""
        self._left_out.update([names] if isinstance(names, str) else names)

    @property
    def consume_from(self) -> dict[str, Queue]:
        """Return the queues that a worker without -Q and -X consumes from."""
        return {queue.name: queue for queue in self.chosen(None, None)}

    def chosen(self, include: Iterable[str] | None, exclude: Iterable[str] | None) -> list[Queue]:
        """Return the queues of a worker with ``include`` (-Q) and ``exclude`` (-X).

        Raises ImproperlyConfigured for a name that is unknown and may not be made up.
        """
        without = {*(exclude or ()), *self._left_out}
        queues = self._router().queues
        found = queues.consumed(self._selected or include, without)
        more = [queues[name] for name in self._more if name not in without]
        return list({queue.name: queue for queue in (*found, *more)}.values())


class Amqp:
    """``app.amqp``."""

    def __init__(self, router: Callable[[], TaskRouter]) -> None:
        """``router`` returns the router for the current settings."""
        self._router = router
        self.queues = AppQueues(router)

    @property
    def router(self) -> TaskRouter:
        """The router of calls, for the current settings."""
        return self._router()
