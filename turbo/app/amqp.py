"""``app.amqp``: the queues an app knows, and which of them its worker consumes from, under Celery's names.

Receivers of the worker's first signals change the choice here, after -Q and -X and before the worker is planned. It
must never talk to a broker.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from turbo.app.publish.queues import queue_from_options

if TYPE_CHECKING:
    from turbo.amqp.topology import Queue
    from turbo.app.base import Turbo
    from turbo.app.publish.routes import TaskRouter


class AppQueues(Mapping[str, "Queue"]):
    """The queues by name; looking up another name makes that queue up, where the settings allow it."""

    def __init__(self, app: Turbo) -> None:
        self._app = app
        #: Chosen in place of those configured; None: nobody chose.
        self._selected: list[str] | None = None
        #: Queues that the program has made known, as it gave them: the router forgets them when a setting changes.
        self._known: dict[str, Any] = {}
        #: The names of those to consume from besides.
        self._more: dict[str, None] = {}
        self._left_out: set[str] = set()

    def __getitem__(self, name: str) -> Queue:
        return self._app.sending.router.queues[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._app.sending.router.queues)

    def __len__(self) -> int:
        return len(self._app.sending.router.queues)

    def __contains__(self, name: object) -> bool:
        return name in self._app.sending.router.queues

    def add(self, queue: Any, **options: Any) -> Queue:
        """Make a queue known: one that is given, or by name with the options of an entry of ``task_queues``."""
        if isinstance(queue, str):
            queue = queue_from_options(queue, options)
        added = self._app.sending.router.queues.add(queue)
        self._known[added.name] = queue
        return added

    def restore(self, router: TaskRouter) -> None:
        """Make a new router know what :meth:`add` has made known."""
        for queue in self._known.values():
            router.queues.add(queue)

    def select(self, names: Iterable[str]) -> None:
        """Consume from these alone."""
        self._selected = list(names)

    def select_add(self, queue: Any, **options: Any) -> Queue:
        """Consume from one more, given as for :meth:`add`."""
        added = self.add(queue, **options)
        self._more[added.name] = None
        return added

    def deselect(self, names: Iterable[str]) -> None:
        """Do not consume from these."""
        self._left_out.update([names] if isinstance(names, str) else names)

    @property
    def consume_from(self) -> dict[str, Queue]:
        """What a worker without -Q and -X consumes from."""
        return {queue.name: queue for queue in self.chosen(None, None)}

    def chosen(self, include: Iterable[str] | None, exclude: Iterable[str] | None) -> list[Queue]:
        """What a worker with ``include`` (-Q) and ``exclude`` (-X) consumes from.

        Raises ImproperlyConfigured for a name that is unknown and may not be made up.
        """
        without = {*(exclude or ()), *self._left_out}
        queues = self._app.sending.router.queues
        found = queues.consumed(self._selected or include, without)
        more = [queues[name] for name in self._more if name not in without]
        return list({queue.name: queue for queue in (*found, *more)}.values())


class Amqp:
    """``app.amqp``."""

    def __init__(self, app: Turbo) -> None:
        self._app = app
        self.queues = AppQueues(app)

    @property
    def router(self) -> TaskRouter:
        """Where calls go, as the settings are now."""
        return self._app.sending.router
