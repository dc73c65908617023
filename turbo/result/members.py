"""The members of a set of results, as a collection.

Base class of ``result.group_result``, in clients and children. It must never read the store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from turbo.result.async_result import AsyncResult
from turbo.result.promise import Countdown, Promise, Thenable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Members(Thenable):
    """The collection methods of ``ResultSet``."""

    #: The members, in order.
    results: list[Any]
    #: Always False: ``get`` waits for a group, except for its members that keep no result.
    ignored = False
    _countdown: Countdown | None = None

    @property
    def on_ready(self) -> Promise:
        """The promise that is called with this handle when all tasks have ended."""
        if self._countdown is None:
            self._countdown = Countdown(self)
            self._wait_for(self.leaves())
            self._countdown.start()
        return self._countdown.promise

    def add(self, result: Any) -> None:
        """Add a result unless it is already a member."""
        if result not in self.results:
            self.results.append(result)
            self._wait_for_added(result)

    def update(self, results: Iterable[Any]) -> None:
        """Add several results."""
        for result in results:
            self.add(result)

    def remove(self, result: Any) -> None:
        """Remove a result, given itself or its id. Raises KeyError if it is not a member."""
        try:
            self.results.remove(result)
        except ValueError:
            raise KeyError(AsyncResult(result) if isinstance(result, str) else result) from None

    def discard(self, result: Any) -> None:
        """Remove a result if it is a member."""
        if result in self.results:
            self.results.remove(result)

    def clear(self) -> None:
        """Remove all results."""
        self.results.clear()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.results)

    def __getitem__(self, index: Any) -> Any:
        return self.results[index]

    def __len__(self) -> int:
        return len(self.results)

    def leaves(self) -> Iterator[AsyncResult]:
        """Yield the results of single calls, including those in nested groups."""
        for result in self.results:
            if isinstance(result, Members):
                yield from result.leaves()
            else:
                yield result

    def arranged(self, values: dict[str, Any]) -> list[Any]:
        """Arrange ``values`` (by task id) in the order and nesting of the members."""
        return [
            result.arranged(values) if isinstance(result, Members) else values.get(result.id) for result in self.results
        ]

    def __eq__(self, other: object) -> bool:
        return other.results == self.results if isinstance(other, Members) else NotImplemented

    def __hash__(self) -> int:
        """Hash by identity, because the members can change."""
        return id(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: [{', '.join(str(result.id) for result in self.results)}]>"

    def __getstate__(self) -> dict[str, Any]:
        """Leave the callbacks out: they are of this process."""
        return {name: value for name, value in vars(self).items() if name != "_countdown"}

    def _wait_for_added(self, result: Any) -> None:
        if self._countdown is None:
            return
        if self._countdown.promise.ready:
            self._countdown = None  # the next callback waits for the new member
        else:
            self._wait_for(result.leaves() if isinstance(result, Members) else [result])

    def _wait_for(self, leaves: Iterable[AsyncResult]) -> None:
        for leaf in leaves:
            if self._countdown is not None and not leaf.ignored:
                self._countdown.add(leaf)
