"""What ``Outcomes`` and settlement ask of their neighbours, as Protocols.

``delivery.dispatcher.Dispatcher`` and ``outcome.settlement.Settlement`` implement them. It must never hold code. A
compiled module checks the classes of what it is given, and does not check a Protocol: so tests can put stand-ins here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from turbo.master.children.child_process import ChildProcess
    from turbo.master.delivery.ledger import Delivery
    from turbo.master.outcome.task_events import TaskEvents
    from turbo.policy.settling import Verb
    from turbo.ring.frames import Asked, PublishRequest, StoreRequest


class DispatcherLike(Protocol):
    """The dispatcher, as ``master.outcome`` uses it."""

    #: Records that children hold beyond their first, summed over all children.
    ahead: int
    #: Moving estimate of a task's run time in nanoseconds; 0 before the first.
    estimate_ns: int

    def pause(self, reason: str) -> None:
        """Hand out nothing until the reason is removed."""

    def resume(self, reason: str) -> None:
        """Remove one reason to pause."""

    def admitted(self, child: ChildProcess) -> None:
        """Record that a task runs beside others."""

    def ended_beside(self, child: ChildProcess, runtime_ns: int) -> None:
        """Record the end of a task that ran beside others."""

    def finished(self, child: ChildProcess, runtimes_ns: Sequence[int], followed: int) -> None:
        """Record the end of tasks; ``followed`` of them left others in the child."""

    def balance(self) -> None:
        """Hand out after a batch; free children take records from busy ones."""


class SettlementLike(Protocol):
    """Settlement, as ``Outcomes`` uses it."""

    events: TaskEvents

    def ack_early(self, delivery: Delivery) -> None:
        """Acknowledge a delivery at the start of its task."""

    def publish(self, delivery: Delivery | None, request: PublishRequest) -> None:
        """Send a message of a task."""

    def state(self, delivery: Delivery | None, request: StoreRequest) -> None:
        """Store a state of a task that has not ended."""

    def outcome(self, delivery: Delivery, asked: Asked, answer: Callable[[bool], None]) -> None:
        """Store the document that a task waits for, and answer."""

    def finish(self, delivery: Delivery, verb: Verb, store: StoreRequest | None) -> None:
        """Settle a delivery."""

    def keep_or_void(self, delivery: Delivery) -> bool:
        """Return True if an unstarted delivery may wait here for another child."""
