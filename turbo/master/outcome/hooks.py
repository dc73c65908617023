"""The interface for outcomes that the app must hear of or decide about.

``NoHooks`` is its plain version.

Runs in the master. Before it: ``master.children.dead_child`` (a child died with its task), ``master.delivery.intake``
(expired) and ``master.outcome.outcomes`` (a child's request). After it: ``master.outcome.settlement``, through the
``then`` argument of each question. ``then`` is called exactly once, on the loop, at once or later; until then the
message stays unsettled. ``NoHooks`` decides at once from ``master.outcome.failure_documents``; ``native.hooks`` serves
turbo's own apps. User code must never run on the loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from turbo.backends.store import StoreOutcome
    from turbo.exceptions import Retry
    from turbo.master.delivery.ledger import Delivery
    from turbo.master.outcome.failure_documents import FailureDocuments
    from turbo.policy.settling import Ending, Verb
    from turbo.ring.frames import StoreRequest

    #: Stores a document and calls back with the result.
    Storing = Callable[[StoreRequest, Callable[[StoreOutcome], None] | None], None]
    #: Makes the hooks of an app in the master, once its loop is running.
    HooksMaker = Callable[[asyncio.AbstractEventLoop, FailureDocuments, Storing], "OutcomeHooks"]
    #: Takes the verb and the document to store first, if any.
    Then = Callable[[Verb, StoreRequest | None], None]


class OutcomeHooks(Protocol):
    """Decides outcomes that no child could, and reports events to the app."""

    @property
    def reports_received(self) -> bool:
        """Whether every message is reported to the app; may change at any time."""

    def received(self, delivery: Delivery, then: Callable[[], None]) -> None:
        """Report a readable, unexpired message to the app.

        Call ``then`` when that is done.
        """

    def accepted(self, delivery: Delivery, pid: int) -> None:
        """The child ``pid`` started a task whose request class has a handler for that."""

    def lost(self, delivery: Delivery, ending: Ending, error: BaseException, pid: int, then: Then) -> None:
        """Decide about a task whose child ``pid`` died: TIMEOUT or WORKER_LOST.

        With ``pid`` 0 and FAILURE no child died: the master could not carry out what the child reported. An undecodable
        delivery may have killed its decoder, so only plain JSON may be decoded here.
        """

    def retried(self, delivery: Delivery, reason: Retry, pid: int) -> None:
        """The child ``pid`` died with this task, and the next attempt was sent."""

    def revoked(self, delivery: Delivery, reason: str, then: Then, signum: int | None = None) -> None:
        """End a task that must not run (on): ``expired``, ``revoked``, ….

        ``terminated`` by ``signum`` is the third reason.
        """

    def reported(self, delivery: Delivery, verb: Verb, ending: Ending, payload: bytes, then: Then) -> None:
        """A child reported an outcome that the app must see.

        ``verb`` is the child's choice.
        """

    def soft_limit(self, delivery: Delivery) -> None:
        """The soft limit of a running task was signalled to its child."""

    def ready(self) -> None:
        """The worker consumes and a child serves."""

    def shutting_down(self, signal: str, how: str, exit_code: int) -> None:
        """The worker was asked to stop; ``how`` is Warm or Cold."""

    async def stop(self, deadline: float) -> None:
        """Answer every open question by ``deadline`` (monotonic seconds); the worker ends."""


class NoHooks:
    """Decides by the ack table and reports nothing.

    ``native.hooks`` adds the app's own code to it.
    """

    def __init__(self, failure_documents: FailureDocuments) -> None:
        self._failure_documents = failure_documents

    @property
    def reports_received(self) -> bool:
        """Always False."""
        return False

    def received(self, delivery: Delivery, then: Callable[[], None]) -> None:
        """Proceed at once."""
        then()

    def accepted(self, delivery: Delivery, pid: int) -> None:
        """Do nothing."""

    def lost(self, delivery: Delivery, ending: Ending, error: BaseException, pid: int, then: Then) -> None:
        """Decide by the ack table, with the document that Celery's master would store."""
        then(*self._failure_documents.failure(delivery, ending, error))

    def retried(self, delivery: Delivery, reason: Retry, pid: int) -> None:
        """Do nothing."""

    def revoked(self, delivery: Delivery, reason: str, then: Then, signum: int | None = None) -> None:
        """Store REVOKED and acknowledge."""
        then(*self._failure_documents.revoked(delivery, reason))

    def reported(self, delivery: Delivery, verb: Verb, ending: Ending, payload: bytes, then: Then) -> None:
        """Raise ``ValueError``: a child reports here only if its app has hooks.

        They would be in the master.
        """
        raise ValueError("a record for the outcome hooks of another kind of app")

    def soft_limit(self, delivery: Delivery) -> None:
        """Do nothing; the child logs the limit."""

    def ready(self) -> None:
        """Do nothing."""

    def shutting_down(self, signal: str, how: str, exit_code: int) -> None:
        """Do nothing."""

    async def stop(self, deadline: float) -> None:
        """Do nothing: every question was answered at once."""
