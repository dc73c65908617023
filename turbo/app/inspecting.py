"""``app.control.inspect()``: read-only commands to workers.

Made by ``app.control``, whose ``broadcast`` it uses; runs in clients and in children. Every method returns a mapping
from node to answer, a single answer if one node is named by a text, or None if no worker answered. It must never change
a worker.
"""

from __future__ import annotations

import fnmatch
import re
from typing import TYPE_CHECKING, Any

from turbo.protocol.ids import text_ids

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Inspect:
    """Sends read-only commands.

    ``destination`` is a node or a list of nodes; ``timeout`` is in seconds.
    """

    def __init__(
        self,
        broadcast: Callable[..., list[dict[str, Any]] | None],
        destination: str | Sequence[str] | None = None,
        timeout: float = 1.0,
        callback: Callable[[Any], object] | None = None,
        connection: Any = None,
        limit: int | None = None,
        pattern: str | None = None,
        matcher: str | None = None,
    ) -> None:
        self._broadcast = broadcast
        self.destination = destination
        self.timeout = timeout
        self.callback = callback
        self.connection = connection
        self.limit = limit
        self.pattern = pattern
        self.matcher = matcher

    def _ask(self, command: str, **arguments: Any) -> Any:
        one = isinstance(self.destination, str)
        replies = self._broadcast(
            command,
            arguments,
            destination=[self.destination] if one else self.destination,
            connection=self.connection,
            reply=True,
            timeout=self.timeout,
            limit=self.limit,
            callback=self.callback,
            pattern=self.pattern,
            matcher=self.matcher,
        )
        by_node = {node: answer for reply in replies or () for node, answer in reply.items()}
        if not by_node:
            return None
        if isinstance(self.destination, str):
            return by_node.get(self.destination)
        if self.pattern and self.matcher:
            return {node: answer for node, answer in by_node.items() if self._fits(node)}
        return by_node

    def _fits(self, node: str) -> bool:
        if self.matcher == "pcre":
            return re.match(self.pattern or "", node) is not None
        return fnmatch.fnmatchcase(node, self.pattern or "")

    def active(self, safe: bool | None = None) -> Any:
        """Return the running tasks."""
        return self._ask("active", safe=safe)

    def scheduled(self, safe: bool | None = None) -> Any:
        """Return the tasks that wait for their ETA in a worker."""
        return self._ask("scheduled")

    def reserved(self, safe: bool | None = None) -> Any:
        """Return the tasks that wait in a worker for a free child."""
        return self._ask("reserved")

    def stats(self) -> Any:
        """Return counts, processes and resources."""
        return self._ask("stats")

    def revoked(self) -> Any:
        """Return the ids of revoked tasks."""
        return self._ask("revoked")

    def registered(self, *attributes: str) -> Any:
        """Return the names of the tasks, with these attributes."""
        return self._ask("registered", taskinfoitems=attributes)

    registered_tasks = registered

    def ping(self, destination: str | Sequence[str] | None = None) -> Any:
        """Ping the workers."""
        if destination:
            self.destination = destination
        return self._ask("ping")

    def active_queues(self) -> Any:
        """Return the queues that are consumed from."""
        return self._ask("active_queues")

    def query_task(self, *ids: Any) -> Any:
        """Return the states of these tasks in the workers that hold them."""
        if len(ids) == 1 and isinstance(ids[0], (list, tuple)):
            ids = tuple(ids[0])
        return self._ask("query_task", ids=text_ids(ids))

    def conf(self, with_defaults: bool = False) -> Any:
        """Return the settings."""
        return self._ask("conf", with_defaults=with_defaults)

    def clock(self) -> Any:
        """Return the logical clocks."""
        return self._ask("clock")

    def report(self) -> Any:
        """Return what ``turbo report`` prints."""
        return self._ask("report")

    def hello(self, from_node: str, revoked: Any = None) -> Any:
        """Send the command by which a starting worker asks the others."""
        return self._ask("hello", from_node=from_node, revoked=revoked)

    def memsample(self) -> Any:
        """Return the memory that workers use."""
        return self._ask("memsample")

    def memdump(self, samples: int = 10) -> Any:
        """Return the samples of :meth:`memsample`, which are forgotten."""
        return self._ask("memdump", samples=samples)

    def objgraph(self, type: str = "Request", n: int = 200, max_depth: int = 10) -> Any:
        """Draw what refers to ``n`` objects of a class in the workers.

        Return the pictures' files, on their machines. Workers need the package objgraph and Graphviz.
        """
        return self._ask("objgraph", num=n, max_depth=max_depth, type=type)
