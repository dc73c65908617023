"""Notifies of the end of one task, by ``watch`` and ``then``.

Base class of ``result.async_result``, in clients and children; comes after ``result.document``. It must never wait for
a task.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from turbo.result.document import StoredResult
from turbo.result.promise import Promise, Thenable

if TYPE_CHECKING:
    from collections.abc import Callable

    from turbo.backends.reader import Meta

logger = logging.getLogger("turbo.result")


class WatchedResult(Thenable, StoredResult):
    """The document of one task, and who is told when it is final."""

    id: str
    #: The reader of the document.
    backend: Any
    #: True if the task keeps no result. Set by the sender of the task.
    ignored: bool
    #: Made when it is asked for, since most results have no callbacks.
    _promise: Promise | None = None

    def watch(self, found: Callable[[Meta], object]) -> Callable[[], None]:
        """Call ``found`` once with the final document, in any thread.

        Returns a function that cancels this.
        """
        if self._final is None:
            cancel: Callable[[], None] = self.backend.watch(self.id, found)
            return cancel
        found(self._final)
        return nothing

    def remember(self, meta: Meta) -> Meta:
        """Keep a final document that other code has read.

        Returns it with its values rebuilt.
        """
        return self._final if self._final is not None else self._take(meta)

    @property
    def on_ready(self) -> Promise:
        """The promise that is called with this result when the task has ended."""
        if self._promise is not None:
            return self._promise
        made = Promise()
        promise: Promise = vars(self).setdefault("_promise", made)
        if promise is made and not self.ignored:
            self.watch(self._arrived)
        return promise

    def _arrived(self, meta: Meta) -> None:
        try:
            self.remember(meta)
            self.on_ready(self)
        except Exception:
            logger.exception("A callback of the result of task %s raised", self.id)

    def _take(self, meta: Meta) -> Meta:
        meta = super()._take(meta)
        if self._promise is not None and self._final is not None:
            self._promise(self)
        return meta


def nothing() -> None:
    """Do nothing: the result was already final, so there is nothing to cancel."""
