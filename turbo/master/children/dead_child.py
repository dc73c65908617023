"""What a child's death does to what it held.

Runs in the master. Before it: ``master.children.pool``, when a pidfd fired. After it: ``master.outcome.settlement`` for
the task that ran, the dispatcher for everything unstarted. Outcomes that were already in the ring count first: a task
that finished a microsecond before its child died has finished.

Unclaimed records go back to the ready queue untouched. What becomes of a claimed one is a table,
``policy.finishing.CHILD_DEATH``. Where a task has failed with its child, WorkerLostError, TimeLimitExceeded or
MemoryLimitExceeded is stored and the ack table decides; where that says requeue, ``master.outcome.poison`` counts, so
that a message that keeps killing is dead-lettered in the end. A task that wants lost attempts retried is
``master.outcome.lost_retries``'s.
"""

from __future__ import annotations

import functools
import logging
import signal
from typing import TYPE_CHECKING, Protocol

from turbo.exceptions import MemoryLimitExceeded, TimeLimitExceeded, WorkerLostError
from turbo.policy.delivery_lifecycle import State
from turbo.policy.finishing import Death, Fate, after_child_death, verb_of_lost_task
from turbo.policy.settling import Ending, Verb
from turbo.ring import frames

if TYPE_CHECKING:
    from turbo.master.children.child_process import ChildProcess
    from turbo.master.delivery.dispatcher import Dispatcher
    from turbo.master.delivery.ledger import Delivery
    from turbo.master.delivery.revoked_tasks import RevokedTasks
    from turbo.master.outcome.failure_documents import FailureDocuments
    from turbo.master.outcome.hooks import OutcomeHooks
    from turbo.master.outcome.outcomes import Outcomes
    from turbo.master.outcome.settlement import Settlement
    from turbo.ring.frames import StoreRequest

logger = logging.getLogger(__name__)

_FINAL_KINDS = frozenset({frames.DONE, frames.ADMITTED})
#: Reasons of a kill that mean the task which the child runs, not the child.
_AIMED = frozenset({"time_limit", "terminated"})


class PoisonGuard(Protocol):
    """Who counts how often a message has killed its child."""

    #: So often it may.
    max_deliveries: int

    def return_after_death(self, delivery: Delivery, reason: str, store: StoreRequest | None) -> None:
        """Store the document, if any, and hand the message back to its queue with a higher count."""

    def return_unrun(self, delivery: Delivery) -> None:
        """Publish an acknowledged message that never ran to its queue, as it was."""


class SecondAttempts(Protocol):
    """Who sends lost tasks again that count their attempts."""

    def retry(self, delivery: Delivery, error: BaseException, pid: int) -> bool:
        """Store RETRY, send the next attempt and settle the message; False where the task wants none, or has none."""


class DeadChild:
    """Settles the estate of dead children."""

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
    ) -> None:
        self._dispatcher = dispatcher
        self._outcomes = outcomes
        self._settlement = settlement
        self._failure_documents = failure_documents
        self._hooks = hooks
        self._poison = poison
        self._retries = retries
        self._revoked_tasks = revoked_tasks
        #: Set at a cold shutdown: tasks killed by it are not failures, their messages go back.
        self.terminating = False

    def settle(self, child: ChildProcess, *, orderly: bool) -> None:
        """Decide about everything the dead child held. Its link is closed by the caller afterwards.

        When that fails, by a fault of ours or of the app's judge, what is undecided goes back to its queue.
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

    # -- inside ------------------------------------------------------------------------------------------

    def _settle(self, child: ChildProcess, *, orderly: bool) -> None:
        estate = child.link.post_mortem(_FINAL_KINDS)
        if estate.corrupt is not None:
            logger.critical("The rings of child %d (pid %d) are corrupt: %s", child.index, child.pid, estate.corrupt)
        self._outcomes.take(child, estate.outcomes)
        parked = list(child.parked.items())
        child.parked.clear()
        # Of the coroutines that had not begun, only the next one can have killed the child.
        suspect = min((seq for seq, _ in parked if seq > estate.coroutines_begun), default=0)
        for seq, delivery in parked:
            self._claimed(child, delivery, seq, begun=seq <= estate.coroutines_begun, suspect=seq == suspect)
        unclaimed = [child.assigned.pop(seq) for seq in estate.unclaimed if seq in child.assigned]
        claimed = sorted(child.assigned)
        for seq in claimed:
            self._claimed(child, child.assigned.pop(seq), seq, begun=seq <= estate.begun)
        self._hand_on([delivery for delivery in unclaimed if self._settlement.still_ours(delivery)])
        if not orderly or claimed or parked:
            self._log(child, bool(claimed or parked))

    def _give_back(self, delivery: Delivery) -> None:
        """Requeue what nobody could decide about. One that was acknowledged at its start can only be named."""
        if delivery.state not in (State.DISPATCHED, State.STARTED):
            return
        message = self._failure_documents.message(delivery)
        logger.critical(
            "Task %s %s",
            message.label if message else "(unreadable)[?]",
            "is lost: its message was acknowledged when it started" if delivery.acked else "goes back to its queue",
        )
        self._settlement.finish(delivery, Verb.REQUEUE, None)

    def _claimed(self, child: ChildProcess, delivery: Delivery, seq: int, *, begun: bool, suspect: bool = True) -> None:
        """Decide about what the child had claimed; the rows are ``policy.finishing.CHILD_DEATH``.

        Not ``begun``: nothing of its body has run. ``suspect``: the child may have died of it.
        """
        # A kill without a sequence number means whatever the child held.
        mine = child.limited in (0, seq)
        if not begun and not self.terminating:
            delivery.deaths += suspect
        death = Death(
            begun=begun,
            aimed=mine and child.kill_reason in _AIMED,
            stored_verb=delivery.facts.stored_verb,
            acked=delivery.acked,
            terminated=child.kill_reason == "terminated" and isinstance(child.verdict, int),
            terminating=self.terminating,
            exhausted=delivery.deaths >= self._poison.max_deliveries,
        )
        fate = after_child_death(death)
        if fate is Fate.HAND_ON:
            if self._settlement.still_ours(delivery):
                self._hand_on([delivery])
            return
        if fate is Fate.PUBLISH_AGAIN:
            self._poison.return_unrun(delivery)
            return
        accepted = delivery.state is State.STARTED
        if not accepted:
            delivery.move(State.STARTED)
            delivery.undecodable = True
        error, ending = self._error(child, seq)
        if fate is Fate.SETTLE_STORED and death.stored_verb is not None:
            logger.error("Child %d ended in the handlers of a task whose outcome is stored: %s", child.index, error)
            self._settlement.finish(delivery, death.stored_verb, None)
        elif fate is Fate.REVOKE and isinstance(child.verdict, int):
            self._outcomes.endings[Ending.REVOKED] += 1
            then = functools.partial(self._settlement.finish, delivery)
            self._hooks.revoked(delivery, "terminated", then, child.verdict)
        elif fate is Fate.REQUEUE:
            self._settlement.finish(delivery, Verb.REQUEUE, None)
        else:
            self._fail(child, delivery, error, ending, accepted=accepted)

    def _hand_on(self, deliveries: list[Delivery]) -> None:
        """Give to other children what this one never began, unless it was revoked meanwhile."""
        for delivery in deliveries:
            delivery.move(State.READY)
        self._dispatcher.resubmit([d for d in deliveries if not self._revoked_tasks.refuses(d)])

    def _fail(
        self, child: ChildProcess, delivery: Delivery, error: BaseException, ending: Ending, *, accepted: bool
    ) -> None:
        """End a task that ended with its child; ``accepted``: a child had begun with it."""
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
            if verb is Verb.REQUEUE:
                # A hard limit that is not acknowledged counts as well: its message kills a child at every start.
                self._poison.return_after_death(delivery, str(error), store)
                return
            self._settlement.finish(delivery, verb, store)

        self._hooks.lost(delivery, ending, error, child.pid, decided)

    def _error(self, child: ChildProcess, seq: int) -> tuple[BaseException, Ending]:
        if child.limited and child.limited != seq:
            why = "its child was killed for the hard time limit of another task"
            if child.kill_reason == "terminated":
                why = "its child was ended by the termination of another task"
            return WorkerLostError(f"Worker exited prematurely: {why}."), Ending.WORKER_LOST
        if child.kill_reason == "time_limit":
            return TimeLimitExceeded(child.verdict), Ending.TIMEOUT
        if child.kill_reason == "memory":
            return MemoryLimitExceeded(str(child.verdict)), Ending.WORKER_LOST
        return WorkerLostError(f"Worker exited prematurely: {describe_exit(child.exit_status)}."), Ending.WORKER_LOST

    def _log(self, child: ChildProcess, had_task: bool) -> None:
        hint = ""
        if child.exit_status == -signal.SIGKILL and not child.kill_reason:
            hint = "; was it out of memory?"
        logger.log(
            logging.INFO if child.kill_reason == "terminated" else logging.ERROR,
            "Child %d (pid %d) %s: %s%s (peak memory %d KiB)",
            child.index,
            child.pid,
            "died with a task" if had_task else "died",
            child.kill_reason or describe_exit(child.exit_status),
            hint,
            child.peak_rss_kib,
        )


def describe_exit(status: int | None) -> str:
    """Name an exit status: ``signal 9 (SIGKILL)``, ``exitcode 3``, or that it is unknown."""
    if status is None:
        return "exit status unknown"
    if status < 0:
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = "unknown"
        return f"signal {-status} ({name})"
    return f"exitcode {status}"
