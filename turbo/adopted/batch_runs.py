"""Runs the messages of a batch of a Celery app, and ends each of them.

Runs in a child, as the base of ``adopted.executor``. ``adopted.batches`` calls the body. The first message stands for
the batch: it is announced as a running function is, with the tightest time limits of all, and ended last; the others
are ADMITTED. As in celery-batches, no result is stored but those that the body stores. It must end each message once.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, NoReturn

from turbo import failpoint
from turbo.adopted.failing import ends_the_process
from turbo.adopted.plan import Plan, Run
from turbo.child import event_texts
from turbo.child.intake import Intake
from turbo.policy.settling import Ending, Verb
from turbo.ring import frames

if TYPE_CHECKING:
    from collections.abc import Sequence

    from turbo.child.parallel import ParallelTasks
    from turbo.protocol.message import TaskMessage


class BatchRuns(Intake[Plan]):
    """The part of the executor that runs batches."""

    _parallel: ParallelTasks[Run]

    @abstractmethod
    def _done(self, seq: int, began: int, verb: Verb, ending: Ending, *, texts: bytes = b"") -> None:
        """Write the DONE record of one message."""

    @abstractmethod
    def _left(self, message: TaskMessage, plan: Plan, error: BaseException) -> NoReturn:
        """The body asked the process to end."""

    def _run_batch(self, batch: list[Run]) -> None:
        """Run these messages by celery-batches' code; end all of them as the body ended."""
        first, *others = batch
        plan = first.plan
        limits = self._tightest([run.message for run in batch], plan.options)
        if plan.in_thread:
            self._begin_batch(batch, limits)
            return
        self._announce(first.seq, first.began, limits, plan.options, early=plan.early)
        for run in others:
            self._join(run.seq, early=plan.early, flags=frames.IN_FUNCTION)
        self._link.signal()
        if failpoint.ENABLED:
            failpoint.hit("child.started_sent")
        self._end_batch(batch, first.seq)
        self._link.page.finished()

    def _begin_batch(self, batch: list[Run], limits: Sequence[float | None]) -> None:
        """Take a batch on that runs in a thread, and go on."""
        first, *others = batch
        soft = self._admit(first.seq, limits, first.plan.options, early=first.plan.early)
        for run in others:
            self._join(run.seq, early=run.plan.early)
        self._link.signal()
        # Its number is the highest: the page then says that all of them have begun.
        batch[-1].batch = batch
        self._parallel.begin(batch[-1], soft, in_thread=True)

    def _end_batch(self, batch: Sequence[Run], seq: int) -> None:
        """Call the body and end each message; ``seq``: whose soft limit is raised in it."""
        first, *others = batch
        plan = first.plan
        assert plan.batch is not None
        try:
            error = plan.batch.run([run.request for run in batch], seq, batch[-1].seq)
        except BaseException as raised:  # noqa: BLE001 - whatever it is, it is the outcome
            if ends_the_process(raised) and not plan.in_thread:
                self._left(first.message, plan, raised)
            error = raised
        ending = Ending.SUCCESS if error is None else Ending.FAILURE
        texts = b"" if error is None else event_texts.of_error(self._link.page, error, None)
        for run in (*others, first):
            self._done(run.seq, run.began, plan.verbs[ending], ending, texts=texts)
