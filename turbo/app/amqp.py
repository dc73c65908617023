"""``app.amqp``: the queues an app knows, and which of them its worker consumes from, under Celery's names.

Receivers of the worker's first signals change the choice here, after -Q and -X and before the worker is planned. It
must never talk to a broker.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from turbo.app.queues import queue_from_options

if TYPE_CHECKING:
    from turbo.amqp.topology import Queue
    from turbo.app.base import Turbo
    from turbo.app.routes import TaskRouter


class AppQueues(Mapping[str, "Queue"]):
    """The queues by name; looking up another name makes that queue up, where the settings allow it."""

    def __init__(self, app: Turbo) -> None:
        self._app = app
        #: Chosen in place of those configured; None: nobody chose.
        self._selected: list[str] | None = None
        self._added: dict[str, Queue] = {}
        self._left_out: set[str] = set()

    def __getitem__(self, name: str) -> Queue:
        return self._added.get(name) or self._app.sending.router.queues[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**self._app.sending.router.queues, **self._added})

    def __len__(self) -> int:
        return len({**self._app.sending.router.queues, **self._added})

    def __contains__(self, name: object) -> bool:
        return name in self._added or name in self._app.sending.router.queues

    def add(self, queue: Any, **options: Any) -> Queue:
        """Make a queue known: one that is given, or by name with the options of an entry of ``task_queues``."""
        if isinstance(queue, str):
            queue = queue_from_options(queue, options)
        return self._app.sending.router.queues.add(queue)

    def select(self, names: Iterable[str]) -> None:
        """Consume from these alone."""
        self._selected = list(names)

    def select_add(self, queue: Any, **options: Any) -> Queue:
        """Consume from one more, given as for :meth:`add`."""
        added = self.add(queue, **options)
        self._added[added.name] = added
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
        found = self._app.sending.router.queues.consumed(self._selected or include, without)
        added = [queue for name, queue in self._added.items() if name not in without]
        return list({queue.name: queue for queue in (*found, *added)}.values())


class Amqp:
    """``app.amqp``."""

    def __init__(self, app: Turbo) -> None:
        self._app = app
        self.queues = AppQueues(app)

    @property
    def router(self) -> TaskRouter:
        """Where calls go, as the settings are now."""
        return self._app.sending.router
