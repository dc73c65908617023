"""Runs a batch's messages by one call, and ends each by its own outcome.

Runs in a child, as the base of ``native.executor``. ``child.intake`` has decoded the messages, and ended those that
must not run. The first of the others stands for the batch: it is announced as a running function is, with the tightest
time limits of all, and ended last; the others are ADMITTED. A body that is a coroutine, or runs in a thread, runs
beside others. What the body sends counts as sent by every message (``master.outcome.settlement``). It must end each
message exactly once.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from turbo import current, failpoint
from turbo.app.tasks.batches import BatchContext, BatchRequest, ended, outcomes_of
from turbo.child.intake import Intake
from turbo.child.plan import Plan
from turbo.ring import frames

if TYPE_CHECKING:
    from collections.abc import Sequence

    from turbo.child.endings import Endings
    from turbo.child.parallel import Limited, ParallelTasks
    from turbo.child.questions import Asked, Questions
    from turbo.child.reporting import Reporter, Run


class BatchRuns(Intake[Plan]):
    """The part of the executor that runs batches."""

    _reporter: Reporter
    _questions: Questions
    _endings: Endings
    _parallel: ParallelTasks[Run]

    @abstractmethod
    def _is_done(self, run: Run) -> bool:
        """Whether a redelivered message's task has succeeded; then it is ended."""

    @abstractmethod
    def _begin(self, run: Run) -> None:
        """The task is accepted; report it to handlers and receivers."""

    @abstractmethod
    def _finished(self, run: Run, result: object) -> bytes:
        """The body returned: send what follows, encode what is stored."""

    def _run_batch(self, batch: list[Run]) -> None:
        """Run these messages of one task together."""
        runs = [run for run in batch if not self._has_succeeded(run)]
        if not runs:
            return
        for run in runs:
            run.batch = runs
        if runs[0].plan.beside:
            self._begin_batch(runs)
        else:
            self._call_batch(runs)

    def _has_succeeded(self, run: Run) -> bool:
        self._reporter.begin(run.seq, run.message.id)
        return run.plan.deduplicates and self._is_done(run)

    # -- a body that is a function -----------------------------------------------------------------------

    def _call_batch(self, runs: list[Run]) -> None:
        first, *others = runs
        plan = first.plan
        limits = self._tightest([run.message for run in runs], plan.options)
        self._announce(first.seq, first.began, limits, plan.options, early=plan.early, to_hooks=plan.own_request)
        for run in others:
            self._join(run.seq, early=plan.early, to_hooks=plan.own_request, flags=frames.IN_FUNCTION)
        try:
            self._finish_batch(runs)
        finally:
            self._link.page.finished()

    def _call_batch_in_thread(self, runs: Sequence[Run]) -> None:
        """Run a batch in this thread; it was taken on by :meth:`_begin_batch`."""
        self._reporter.begin_beside(runs[0].seq, "")
        self._finish_batch(runs)

    def _finish_batch(self, runs: Sequence[Run]) -> None:
        """Call the body and end each message."""
        first, *others = runs
        outcomes = self._prepared(runs)
        if ready := [run for run in runs if run not in outcomes]:
            outcomes |= zip(ready, self._body_of(ready), strict=True)
        for run in (*others, first):
            self._conclude(run, outcomes[run])

    def _body_of(self, runs: list[Run]) -> Sequence[Any]:
        """Call the body; return an outcome for each message."""
        plan, page = runs[0].plan, self._link.page
        # In a thread, the last message stands for the batch, which has begun already.
        seq = runs[0].entered if plan.in_thread else runs[0].batch[0].seq

        def body(requests: list[BatchRequest]) -> Any:
            if not plan.in_thread:
                page.begin_body(runs[0].entered)
            return plan.body(requests)

        requests = self._requests(runs)
        token = current.push(plan.task, BatchContext.of(requests))
        try:
            returned = self._soft.call(seq, body, (requests,), {})
            page.leave_body()
            if failpoint.ENABLED:
                failpoint.hit("child.body_done")
            return outcomes_of(returned, len(runs))
        except BaseException as error:  # noqa: BLE001 - whatever a body raises is its outcome
            return [error] * len(runs)
        finally:
            current.pop(token)

    def _conclude(self, run: Run, outcome: object) -> None:
        token = current.push(run.plan.task, run.request)
        try:
            asked = self._end(run, outcome)
            while asked is not None:
                asked = asked.then(self._questions.wait(asked.seq))
        finally:
            current.pop(token)

    # -- a body that is a coroutine ----------------------------------------------------------------------

    def _begin_batch(self, runs: list[Run]) -> None:
        """Take a batch on that runs beside other tasks, and go on."""
        first, *others = runs
        plan = first.plan
        limits = self._tightest([run.message for run in runs], plan.options)
        soft = self._admit(first.seq, limits, plan.options, early=plan.early, to_hooks=plan.own_request)
        for run in others:
            self._join(run.seq, early=plan.early, to_hooks=plan.own_request)
        self._link.signal()
        if failpoint.ENABLED:
            failpoint.hit("child.admitted_sent")
        # Its number is the highest: the page then says that all of them have begun.
        self._parallel.begin(runs[-1], soft, in_thread=plan.in_thread)

    async def _await_batch(self, runs: Sequence[Run], limited: Limited) -> None:
        """Run a batch whose body is a coroutine; ``limited`` limits its time."""
        first, *others = runs
        self._reporter.begin_beside(first.seq, "")
        outcomes = self._prepared(runs)
        if ready := [run for run in runs if run not in outcomes]:
            requests = self._requests(ready)
            token = current.push(first.plan.task, BatchContext.of(requests))
            found: Sequence[Any]
            try:
                found = outcomes_of(await limited(first.plan.body(requests)), len(ready))
                if failpoint.ENABLED:
                    failpoint.hit("child.body_done")
            except BaseException as error:  # noqa: BLE001 - whatever a body raises is its outcome
                found = [error] * len(ready)
            finally:
                current.pop(token)
            outcomes |= zip(ready, found, strict=True)
        for run in (*others, first):
            token = current.push(run.plan.task, run.request)
            try:
                asked = self._end(run, outcomes[run])
                while asked is not None:
                    asked = asked.then(await self._questions.arrival(asked.seq))
            finally:
                current.pop(token)

    # -- both --------------------------------------------------------------------------------------------

    def _prepared(self, runs: Sequence[Run]) -> dict[Run, Any]:
        """Report the start of each message; return outcomes of ``before_start``.

        They are of those that raised.
        """
        outcomes: dict[Run, Any] = {}
        for run in runs:
            plan, message = run.plan, run.message
            self._reporter.begin(run.seq, message.id)
            token = current.push(plan.task, run.request)
            try:
                self._begin(run)
                if plan.before_start is not None:
                    plan.before_start(message.id, message.args, message.kwargs)
            except BaseException as error:  # noqa: BLE001 - as in a body
                outcomes[run] = error
            finally:
                current.pop(token)
        return outcomes

    def _requests(self, runs: Sequence[Run]) -> list[BatchRequest]:
        """Return what the body is given.

        From here on it sends for all messages, under no id.
        """
        self._reporter.begin(runs[0].batch[0].seq)
        return [BatchRequest(run.request) for run in runs]

    def _end(self, run: Run, outcome: object) -> Asked | None:
        """End one message. Its request is the current one."""
        self._reporter.begin(run.seq, run.message.id)
        if isinstance(outcome, BaseException):
            return self._endings.raised(run, ended(run.plan.task, outcome))
        try:
            store = self._finished(run, outcome)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the outcome
            return self._endings.raised(run, error)
        return self._endings.succeeded(run, outcome, store)
