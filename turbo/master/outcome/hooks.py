"""Who decides about tasks whose outcome no child could decide, and how the app hears of it: the seam and turbo's own.

Runs in the master. Before it: ``master.children.dead_child`` (a child died with its task), ``master.delivery.intake``
(expired) and ``master.outcome.outcomes`` (a child asks for it). After it: ``master.outcome.settlement``, through the
``then`` that each question comes with. ``then`` is called exactly once, on the loop, at once or later; until then the
message stays unsettled. Here the answer follows from ``master.outcome.failure_documents`` at once and no code of the
user's runs; ``native.hooks`` is what a worker of turbo's own apps is given.
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

    #: Stores a document, and calls back with what became of it.
    Storing = Callable[[StoreRequest, Callable[[StoreOutcome], None] | None], None]
    #: Takes the verb, and the document to store before it is carried out, if any.
    Then = Callable[[Verb, StoreRequest | None], None]


class OutcomeHooks(Protocol):
    """Decides, and tells the app."""

    def begin(self, loop: asyncio.AbstractEventLoop, failure_documents: FailureDocuments, store: Storing) -> None:
        """The master's loop runs."""

    @property
    def hears_received(self) -> bool:
        """Whether the app wants to hear of every message; may change at any time."""

    def received(self, delivery: Delivery, then: Callable[[], None]) -> None:
        """Tell the app of a message that can be read and has not expired; ``then`` when that is done."""

    def accepted(self, delivery: Delivery, pid: int) -> None:
        """The child ``pid`` begins a task whose requests want to hear of that."""

    def lost(self, delivery: Delivery, ending: Ending, error: BaseException, pid: int, then: Then) -> None:
        """The child ``pid`` died with this task: ``ending`` is TIMEOUT or WORKER_LOST.

        With 0 for ``pid`` and FAILURE no child died: what its child reported could not be carried out.
        An ``opaque`` delivery may have killed it while it was decoded, and must not be decoded here but for plain JSON.
        """

    def retried(self, delivery: Delivery, reason: Retry, pid: int) -> None:
        """The child ``pid`` died with this task, and its next attempt was sent."""

    def revoked(self, delivery: Delivery, reason: str, then: Then, signum: int | None = None) -> None:
        """The task must not run (on): ``expired``, ``revoked``, or ``terminated`` by the signal ``signum``."""

    def reported(self, delivery: Delivery, verb: Verb, ending: Ending, told: bytes, then: Then) -> None:
        """A child has an outcome that the app wants to hear of; ``verb`` is what the child would do."""

    def soft_limit(self, delivery: Delivery) -> None:
        """The soft limit of a running task was signalled to its child."""

    def ready(self) -> None:
        """The worker consumes, and a child serves."""

    def shutting_down(self, signal: str, how: str, exit_code: int) -> None:
        """The worker was asked to stop; ``how`` is Warm or Cold."""

    async def stop(self, deadline: float) -> None:
        """Answer what was asked, by ``deadline`` (monotonic seconds); the worker ends."""


class NoHooks:
    """The judge that holds by the ack table and tells nobody. ``native.hooks`` adds the app's own code to it."""

    def begin(self, loop: asyncio.AbstractEventLoop, failure_documents: FailureDocuments, store: Storing) -> None:
        """Nothing but the verdicts is needed."""
        self._failure_documents = failure_documents

    @property
    def hears_received(self) -> bool:
        """Nobody listens."""
        return False

    def received(self, delivery: Delivery, then: Callable[[], None]) -> None:
        """Nobody listens."""
        then()

    def accepted(self, delivery: Delivery, pid: int) -> None:
        """Nobody listens."""

    def lost(self, delivery: Delivery, ending: Ending, error: BaseException, pid: int, then: Then) -> None:
        """By the ack table, with the document that Celery's master would store."""
        then(*self._failure_documents.failure(delivery, ending, error))

    def retried(self, delivery: Delivery, reason: Retry, pid: int) -> None:
        """Nobody listens."""

    def revoked(self, delivery: Delivery, reason: str, then: Then, signum: int | None = None) -> None:
        """REVOKED, acknowledged."""
        then(*self._failure_documents.revoked(delivery, reason))

    def reported(self, delivery: Delivery, verb: Verb, ending: Ending, told: bytes, then: Then) -> None:
        """A child of a native app never asks."""
        raise ValueError("a record for a judge of another kind of app")

    def soft_limit(self, delivery: Delivery) -> None:
        """The child logs what comes of it."""

    def ready(self) -> None:
        """Nobody waits for this."""

    def shutting_down(self, signal: str, how: str, exit_code: int) -> None:
        """Nobody waits for this."""

    async def stop(self, deadline: float) -> None:
        """Everything was answered at once."""
