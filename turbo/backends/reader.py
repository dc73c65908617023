"""The interface between ``AsyncResult`` and a result store, for reading.

Used by clients, and by a child whose task waits for another. Before it: the documents that a worker (turbo's or
Celery's) has stored. After it: ``result.async_result``. It defines the Protocol and the decoding of stored documents. A
document that cannot be decoded raises. Exceptions are rebuilt in ``protocol.faults`` only, never here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from turbo.backends.compressed import LIMIT, open_document
from turbo.exceptions import DecodeError
from turbo.protocol.content import decode
from turbo.states import PENDING

if TYPE_CHECKING:
    from collections.abc import Callable

    from turbo.amqp.topology import Queue
    from turbo.backends.redis.chords import RedisChords

#: A result document: status, result, traceback, children, date_done, task_id, and more when they were stored.
Meta = dict[str, Any]


class SavedGroups(Protocol):
    """The structures of groups that programs save."""

    def save_group(self, group_id: str, structure: object) -> None:
        """Save a group's structure for the lifetime of results.

        Called by ``GroupResult.save``.
        """

    def restore_group(self, group_id: str) -> Any | None:
        """Return the saved structure of a group, or None. Raises DecodeError."""

    def delete_group(self, group_id: str) -> None:
        """Delete the saved structure of a group."""


class ResultReader(Protocol):
    """The methods of a result store that ``AsyncResult`` calls.

    Every method may be called from any thread.
    """

    @property
    def chords(self) -> RedisChords | None:
        """The object that counts chords; None if the store does not support that."""

    @property
    def groups(self) -> SavedGroups | None:
        """The object that saves groups; None if the store does not support that."""

    def get_task_meta(self, task_id: str, cache: bool = True) -> Meta:
        """Return the latest document.

        ``{"status": "PENDING", "result": None}`` if there is none. Nothing is cached. Raises ``OperationalError`` when
        the store cannot be reached.
        """

    def wait_for(
        self,
        task_id: str,
        *,
        timeout: float | None = None,
        interval: float = 0.5,
        on_interval: Callable[[], object] | None = None,
        on_message: Callable[[Meta], object] | None = None,
    ) -> Meta:
        """Wait until the state is final and return the document.

        ``on_message`` is called with every document that arrives, ``on_interval`` at least every ``interval``
        seconds. Raises ``turbo.exceptions.TimeoutError`` after ``timeout`` seconds (None: never).
        """

    def watch(self, task_id: str, found: Callable[[Meta], object]) -> Callable[[], None]:
        """Call ``found`` once with the final document, in any thread.

        Returns a function that cancels this. Does not wait, and uses no thread per result.
        """

    def forget(self, task_id: str) -> None:
        """Delete the document."""

    def store_result(
        self, task_id: str, result: object, state: str, traceback: str | None = None, request: Any = None
    ) -> None:
        """Store a document from the client. Workers do not use this."""

    def reply_queue(self, name: str) -> Queue | None:
        """Return the queue to declare before a task with ``reply_to=name`` is sent.

        None if none is needed.
        """

    def as_uri(self, include_password: bool = False) -> str:
        """Return the URL; the password is replaced by ``**`` unless ``include_password``."""

    def close(self) -> None:
        """Close connections and threads. The next use of the reader opens them again."""


def pending() -> Meta:
    """Return the document of a task that the store does not have."""
    return {"status": PENDING, "result": None}


def decode_meta(stored: bytes, content_type: str, content_encoding: str, accept: frozenset[str]) -> Meta:
    """Decode a stored document. Raises ``DecodeError`` or ``ContentDisallowed``."""
    document = decode(open_document(stored, LIMIT), content_type, content_encoding, accept)
    if not isinstance(document, dict) or not isinstance(document.get("status"), str):
        raise DecodeError("the stored value is not a result document: it has no status")
    document.setdefault("result", None)
    return document
