"""Hands documents to the result store; no task starts while the store has no room.

Runs in the master. Before it: ``master.outcome.settlement`` (what children report) and the outcome hooks. After it:
``backends.store``. It must never drop a document.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from turbo.backends.store import ResultWrite

if TYPE_CHECKING:
    from collections.abc import Callable

    from turbo.backends.store import ResultStore, StoreOutcome
    from turbo.master.delivery.dispatcher import Dispatcher
    from turbo.ring.frames import StoreRequest


class DocumentStore:
    """Stores the documents of one master."""

    def __init__(self, store: ResultStore, dispatcher: Dispatcher) -> None:
        self._store = store
        self._dispatcher = dispatcher

    def __call__(self, request: StoreRequest, then: Callable[[StoreOutcome], None] | None) -> None:
        """Store one document; ``then`` is called once, when the store has answered."""
        self._store.store(
            ResultWrite(
                request.task_id,
                request.payload,
                request.guard,
                request.reply_to or None,
                request.correlation_id or None,
                request.content_type,
                request.content_encoding,
            ),
            then or _nothing,
        )
        if self._store.congested:
            # Outcomes are never dropped. So no task starts until the store has room again.
            self._dispatcher.pause("results")


def _nothing(_outcome: StoreOutcome) -> None:
    """Do nothing, for documents without a waiter: the store logs failures."""
