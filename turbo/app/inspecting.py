"""``app.control.inspect()``: asking workers for what they do, without changing it.

Made by ``app.control``, whose ``broadcast`` it is given. Every method returns a mapping from node to answer, the one
answer where one node is named by a text, or None where nobody answered.
"""

from __future__ import annotations

import fnmatch
import re
from typing import TYPE_CHECKING, Any

from turbo.protocol.ids import text_ids

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Inspect:
    """See the module. ``destination`` is a node or a list of them; ``timeout`` is in seconds."""

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
        """Tasks that run."""
        return self._ask("active", safe=safe)

    def scheduled(self, safe: bool | None = None) -> Any:
        """Tasks that wait for their time in a worker."""
        return self._ask("scheduled")

    def reserved(self, safe: bool | None = None) -> Any:
        """Tasks that wait in a worker for a free child."""
        return self._ask("reserved")

    def stats(self) -> Any:
        """Counts, processes and resources."""
        return self._ask("stats")

    def revoked(self) -> Any:
        """Ids of revoked tasks."""
        return self._ask("revoked")

    def registered(self, *attributes: str) -> Any:
        """Names of the tasks, with these attributes."""
        return self._ask("registered", taskinfoitems=attributes)

    registered_tasks = registered

    def ping(self, destination: str | Sequence[str] | None = None) -> Any:
        """Who is there."""
        if destination:
            self.destination = destination
        return self._ask("ping")

    def active_queues(self) -> Any:
        """Queues that are consumed from."""
        return self._ask("active_queues")

    def query_task(self, *ids: Any) -> Any:
        """What has become of these tasks, in the workers that know them."""
        if len(ids) == 1 and isinstance(ids[0], (list, tuple)):
            ids = tuple(ids[0])
        return self._ask("query_task", ids=text_ids(ids))

    def conf(self, with_defaults: bool = False) -> Any:
        """The settings."""
        return self._ask("conf", with_defaults=with_defaults)

    def clock(self) -> Any:
        """The logical clocks."""
        return self._ask("clock")

    def report(self) -> Any:
        """What ``turbo report`` prints."""
        return self._ask("report")

    def hello(self, from_node: str, revoked: Any = None) -> Any:
        """What a worker that begins asks the others."""
        return self._ask("hello", from_node=from_node, revoked=revoked)

    def memsample(self) -> Any:
        """The memory that workers use."""
        return self._ask("memsample")
