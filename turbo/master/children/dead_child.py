"""Settles the deliveries that a dead child held.

Runs in the master. Before it: ``master.children.pool``, when the pidfd of a child fires. After it:
``master.outcome.settlement`` for the task that ran, the dispatcher for everything unstarted. The outcomes in the
child's ring are read first: a task that ended just before its child died has ended. It must never lose an
unacknowledged delivery, whatever fails here.

Unclaimed records go back to the ready queue unchanged. The table ``policy.finishing.CHILD_DEATH`` decides about a
claimed one. Where a task has failed with its child, WorkerLostError, TimeLimitExceeded or MemoryLimitExceeded is stored
and the ack table decides; where that says requeue, ``master.outcome.poison`` counts the death, so a message that kills
again and again is dead-lettered. ``master.outcome.lost_retries`` sends the next attempt of tasks that ask for it.
"""

from __future__ import annotations

import functools
import logging
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from turbo.exceptions import MemoryLimitExceeded, TimeLimitExceeded, WorkerLostError
from turbo.master.delivery import units
from turbo.policy.delivery_lifecycle import State
from turbo.policy.finishing import Death, Fate, after_child_death, verb_of_lost_task
from turbo.policy.settling import Ending, Verb
from turbo.ring import frames

if TYPE_CHECKING:
    from collections.abc import Sequence

    from turbo.master.children.child_process import ChildProcess
    from turbo.master.delivery.dispatcher import Dispatcher
    from turbo.master.delivery.ledger import Delivery
    from turbo.master.delivery.paused_queues import PausedQueues
    from turbo.master.delivery.revoked_tasks import RevokedTasks
    from turbo.master.outcome.failure_documents import FailureDocuments
    from turbo.master.outcome.hooks import OutcomeHooks
    from turbo.master.outcome.outcomes import Outcomes
    from turbo.master.outcome.settlement import Settlement
    from turbo.ring.frames import StoreRequest

logger = logging.getLogger(__name__)

_FINAL_KINDS = frozenset({frames.DONE, frames.ADMITTED})
#: Reasons to kill a child because of the task that it runs.
_AIMED = frozenset({"time_limit", "terminated"})


class PoisonGuard(Protocol):
    """Counts how often a message has killed its child."""

    #: Maximum deaths per message.
    max_deliveries: int

    def return_after_death(self, delivery: Delivery, reason: str, store: StoreRequest | None) -> None:
        """Store the document, if any, and requeue the message with a higher count."""

    def return_unrun(self, delivery: Delivery) -> None:
        """Publish an acknowledged message that never ran to its queue, as it was."""


class SecondAttempts(Protocol):
    """Retries a task that was lost with its child, if the task asks for that."""

    def retry(self, delivery: Delivery, error: BaseException, pid: int) -> bool:
        """Store RETRY, send the next attempt, settle the message.

        Return False when the task has no attempt left.
        """


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a child, or the thread of one task, was ended."""

    #: As in ``ChildProcess``: empty when the child died by itself.
    reason: str
    detail: object
    #: Sequence of the task at which it was aimed; 0: at everything that the child held.
    aimed_at: int = 0

    def hits(self, seq: int) -> bool:
        """Whether it was aimed at this task."""
        return self.aimed_at in (0, seq)

    def is_limit_of_batch(self, delivery: Delivery) -> bool:
        """Whether it was the time limit of this delivery's batch."""
        return self.reason == "time_limit" and any(member.seq == self.aimed_at for member in delivery.together)


class DeadChild:
    """Settles the deliveries that a dead child held."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        outcomes: Outcomes,
        settlement: Settlement,
        failure_documents: FailureDocuments,
        hooks: OutcomeHooks,
        poison: PoisonGuard,
        retries: SecondAttempts,
        revoked_tasks: RevokedTasks,
        paused_queues: PausedQueues,
    ) -> None:
        self._dispatcher = dispatcher
        self._outcomes = outcomes
        self._settlement = settlement
        self._events = settlement.events
        self._failure_documents = failure_documents
        self._hooks = hooks
        self._poison = poison
        self._retries = retries
        self._revoked_tasks = revoked_tasks
        self._paused_queues = paused_queues
        #: Set at a cold shutdown: the tasks that it kills have not failed, and their messages go back.
        self.terminating = False

    def settle(self, child: ChildProcess, *, orderly: bool) -> None:
        """Settle everything that the dead child held.

        The caller closes its link afterwards. When this fails, here or in the app's hooks, the undecided deliveries go
        back to their queues.
        """
        held = [*child.assigned.values(), *child.parked.values()]
        try:
            self._settle(child, orderly=orderly)
        except Exception:
            logger.critical("What child %d (pid %d) held could not be settled", child.index, child.pid, exc_info=True)
            for delivery in held:
                self._give_back(delivery)
        child.assigned.clear()
        child.parked.clear()

    def end_tasks(self, child: ChildProcess, deliveries: Sequence[Delivery], cause: Cause) -> None:
        """End what runs in one thread of a living child.

        The caller has removed it from there.
        """
        for delivery in deliveries:
            self._claimed(child, delivery, delivery.seq, cause, begun=True)

    # -- inside ------------------------------------------------------------------------------------------

    def _settle(self, child: ChildProcess, *, orderly: bool) -> None:
        remains = child.link.post_mortem(_FINAL_KINDS)
        if remains.corrupt is not None:
            logger.critical("The rings of child %d (pid %d) are corrupt: %s", child.index, child.pid, remains.corrupt)
        self._outcomes.take(child, remains.outcomes)
        unclaimed = [child.assigned.pop(seq) for seq in remains.unclaimed if seq in child.assigned]
        for delivery in unclaimed:
            if delivery.followers:
                units.recall(child, delivery)
        parked, cause = list(child.parked.items()), Cause(child.kill_reason, child.kill_detail, child.limited)
        child.parked.clear()
        # Of the coroutines that had not begun, only the next one can have killed the child.
        suspect = min((seq for seq, _ in parked if seq > remains.coroutines_begun), default=0)
        for seq, delivery in parked:
            begun = remains.begun if delivery.in_function else remains.coroutines_begun
            self._claimed(child, delivery, seq, cause, begun=seq <= begun, suspect=seq == suspect)
        claimed = sorted(child.assigned)
        for seq in claimed:
            self._claimed(child, child.assigned.pop(seq), seq, cause, begun=seq <= remains.begun)
        members = [delivery for first in unclaimed for delivery in (first, *first.followers)]
        void = {delivery for delivery in members if not self._settlement.keep_or_void(delivery)}
        self._hand_on(units.split(unclaimed, void)[1])
        if not orderly or claimed or parked:
            self._log(child, bool(claimed or parked))

    def _give_back(self, delivery: Delivery) -> None:
        """Requeue a delivery after an error here.

        One that was acknowledged at its start is only logged.
        """
        if delivery.state not in (State.DISPATCHED, State.STARTED):
            return
        message = self._failure_documents.message(delivery)
        logger.critical(
            "Task %s %s",
            message.label if message else "(unreadable)[?]",
            "is lost: its message was acknowledged when it started" if delivery.acked else "goes back to its queue",
        )
        self._settlement.finish(delivery, Verb.REQUEUE, None)

    def _claimed(
        self, child: ChildProcess, delivery: Delivery, seq: int, cause: Cause, *, begun: bool, suspect: bool = True
    ) -> None:
        """Settle a claimed delivery by the table ``policy.finishing.CHILD_DEATH``.

        ``begun``: its body has begun to run. ``suspect``: it may have killed the child.
        """
        mine = cause.hits(seq) or cause.is_limit_of_batch(delivery)
        units.dissolve(delivery)
        if not begun and not self.terminating:
            delivery.deaths += suspect
        death = Death(
            begun=begun,
            aimed=mine and cause.reason in _AIMED,
            stored_verb=delivery.facts.stored_verb,
            acked=delivery.acked,
            terminated=cause.reason == "terminated" and isinstance(cause.detail, int),
            terminating=self.terminating,
            exhausted=delivery.deaths >= self._poison.max_deliveries,
        )
        fate = after_child_death(death)
        if fate is Fate.HAND_ON:
            if self._settlement.keep_or_void(delivery):
                self._hand_on([delivery])
            return
        if fate is Fate.PUBLISH_AGAIN:
            self._poison.return_unrun(delivery)
            return
        accepted = delivery.state is State.STARTED
        if not accepted:
            delivery.move(State.STARTED)
            delivery.undecodable = True
        error, ending = _error(child, cause, mine=mine)
        if fate is Fate.SETTLE_STORED and death.stored_verb is not None:
            logger.error("Child %d ended in the handlers of a task whose outcome is stored: %s", child.index, error)
            if self._events.on:
                self._events.stored(delivery)
            self._settlement.finish(delivery, death.stored_verb, None)
        elif fate is Fate.REVOKE and isinstance(cause.detail, int):
            self._outcomes.endings[Ending.REVOKED] += 1
            if self._events.on:
                self._events.revoked(delivery, signum=cause.detail)
            then = functools.partial(self._settlement.finish, delivery)
            self._hooks.revoked(delivery, "terminated", then, cause.detail)
        elif fate is Fate.REQUEUE:
            if self._events.on and accepted:
                self._events.cancelled(delivery)
            self._settlement.finish(delivery, Verb.REQUEUE, None)
        else:
            self._fail(child, delivery, error, ending, accepted=accepted)

    def _hand_on(self, unstarted: list[Delivery]) -> None:
        """Queue for others what this child never began; discard what was revoked.

        A queue may have been paused after the child died: its messages wait with the others of that queue.
        """
        members = [delivery for first in unstarted for delivery in (first, *first.followers)]
        for delivery in members:
            if delivery.state is not State.READY:
                delivery.move(State.READY)
        revoked = {delivery for delivery in members if self._revoked_tasks.refuses(delivery)}
        kept = units.split(unstarted, revoked)[1]
        paused = {delivery for delivery in members if delivery.queue in self._paused_queues.names}
        held, others = units.split(kept, paused - revoked)
        for delivery in held:
            self._paused_queues.hold(delivery, told=True)
        self._dispatcher.resubmit(others)

    def _fail(
        self, child: ChildProcess, delivery: Delivery, error: BaseException, ending: Ending, *, accepted: bool
    ) -> None:
        """End a task that failed with its child; ``accepted``: the child had begun it."""
        message = self._failure_documents.message(delivery)
        logger.error(
            "Task %s ended with its child: %s",
            message.label if message else "(unreadable)[?]",
            error,
        )
        if accepted and ending is Ending.WORKER_LOST and self._retries.retry(delivery, error, child.pid):
            self._outcomes.endings[Ending.RETRY] += 1
            return
        self._outcomes.endings[ending] = self._outcomes.endings.get(ending, 0) + 1

        def decided(verb: Verb, store: StoreRequest | None) -> None:
            verb = verb_of_lost_task(verb, accepted=accepted)
            if self._events.on:
                self._events.lost(delivery, ending, verb, error)
            if verb is Verb.REQUEUE:
                # An unacknowledged hard time limit counts as well: the message kills a child at every start.
                self._poison.return_after_death(delivery, str(error), store)
                return
            self._settlement.finish(delivery, verb, store)

        self._hooks.lost(delivery, ending, error, child.pid, decided)

    def _log(self, child: ChildProcess, had_task: bool) -> None:
        hint = ""
        if child.exit_status == -signal.SIGKILL and not child.kill_reason:
            hint = "; was it out of memory?"
        logger.log(
            logging.INFO if child.kill_reason in ("terminated", "replaced") else logging.ERROR,
            "Child %d (pid %d) %s: %s%s (peak memory %d KiB)",
            child.index,
            child.pid,
            "died with a task" if had_task else "died",
            child.kill_reason or describe_exit(child.exit_status),
            hint,
            child.peak_rss_kib,
        )


def _error(child: ChildProcess, cause: Cause, *, mine: bool) -> tuple[BaseException, Ending]:
    """Return how a task ended with its child; ``mine``: killed for no other."""
    if not mine:
        why = "its child was killed for the hard time limit of another task"
        if cause.reason == "terminated":
            why = "its child was ended by the termination of another task"
        return WorkerLostError(f"Worker exited prematurely: {why}."), Ending.WORKER_LOST
    if cause.reason == "time_limit":
        return TimeLimitExceeded(cause.detail), Ending.TIMEOUT
    if cause.reason == "memory":
        return MemoryLimitExceeded(str(cause.detail)), Ending.WORKER_LOST
    return WorkerLostError(f"Worker exited prematurely: {describe_exit(child.exit_status)}."), Ending.WORKER_LOST


def describe_exit(status: int | None) -> str:
    """Name an exit status, such as ``signal 9 (SIGKILL)`` or ``exitcode 3``."""
    if status is None:
        return "exit status unknown"
    if status < 0:
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = "unknown"
        return f"signal {-status} ({name})"
    return f"exitcode {status}"
