"""The bootsteps of a program: when a worker starts and stops them.

Called by the hooks of both kinds of app, on the master's loop; the steps run on the hook thread and beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from turbo.master.consumer_steps import ConsumerSteps
    from turbo.master.outcome.hook_thread import HookThread
    from turbo.master.worker_steps import WorkerSteps


class Bootsteps:
    """The bootsteps of one worker; either part is None if the program has none."""

    def __init__(self, hooks: HookThread, of_worker: WorkerSteps | None, of_consumer: ConsumerSteps | None) -> None:
        self._hooks = hooks
        self._of_worker = of_worker
        self._of_consumer = of_consumer
        self._started = False

    def start(self) -> None:
        """Start all."""
        self._started = True
        if self._of_worker is not None:
            self._hooks.submit("A bootstep", self._of_worker.start)
        if self._of_consumer is not None:
            self._hooks.submit("A bootstep of the consumer", self._of_consumer.start)

    def end_consuming(self) -> None:
        """Stop those that consume: the worker was asked to stop."""
        if self._of_consumer is not None:
            self._hooks.submit("A bootstep of the consumer", self._of_consumer.stop)

    def stop(self) -> None:
        """Stop the others: the last task has ended."""
        if self._of_worker is not None and self._started:
            self._hooks.submit("A bootstep", self._of_worker.stop)
