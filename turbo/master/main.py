"""Runs one worker's master: makes, starts and stops its parts.

A stop is warm, soft or cold.

Runs in the master. Before it: ``worker``, which calls it with all that was decided before the loop runs. After it:
the parts of ``master.assembly``. ``policy.worker_lifecycle`` is the table of what a stop request means in each phase;
this module carries the phases out. It knows tasks only as ``policy.task_options`` and must never run user code.

A warm stop cancels the consumers, hands back what no child has started, waits for the running tasks, stores their
results, settles their messages, and closes the connections. Heartbeats, acknowledgements and confirms go on until the
end. When the deadline passes, the stop becomes cold: the children are killed, and the broker has their unacknowledged
messages again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import TYPE_CHECKING, Protocol

from turbo.log_format.saying import say
from turbo.master import os_signals, supervision
from turbo.master.assembly import assemble
from turbo.master.broker_patience import BrokerPatience
from turbo.master.delivery import units
from turbo.master.drain_report import DrainReport
from turbo.policy import shutdown_lines
from turbo.policy.worker_lifecycle import Phase, Request, on_request, restarts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from turbo.master.blueprint import Blueprint
    from turbo.master.delivery.ledger import Delivery
    from turbo.spawner.handle import Spawner

logger = logging.getLogger("turbo.worker")

#: Seconds for closing connections once nothing is left to settle; also the least after any deadline.
_CLOSING = 2.0
#: Seconds between looks at whether the last task has ended, while stopping.
_DRAIN_STEP = 0.01


class Companion(Protocol):
    """Something that starts and stops with the worker, but is no part of it."""

    async def start(self) -> None:
        """Start; return within seconds, also when that fails."""

    async def stop(self, deadline: float) -> None:
        """Stop by ``deadline`` (monotonic seconds), also when it never started."""


class Master:
    """Starts and stops the parts of one worker's master."""

    def __init__(self, blueprint: Blueprint, spawner: Spawner, loop: asyncio.AbstractEventLoop) -> None:
        self.blueprint = blueprint
        self._options = blueprint.options
        self._loop = loop
        self.phase = Phase.STARTING
        self.exit_code = 0
        #: Whether the worker stops because the spawner process has ended: no child can be made.
        self.spawner_died = False
        self.asked_to_stop = False
        #: When the worker became ready, by the monotonic clock; None before that.
        self.ready_at: float | None = None
        #: Whether HUP asked it to stop and to run its command again.
        self.restarting = False
        #: The name of the last signal that asked for a stop, and the kind of stop that the hooks were told.
        self._asked_by = "SIGTERM"
        self._told = ""
        self._stop_wanted = asyncio.Event()
        self._phase_changed = asyncio.Event()
        self._fatal: BaseException | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._patience = BrokerPatience(self._options, self, queues=[queue.name for queue in blueprint.queues])
        self.parts = parts = assemble(blueprint, spawner, loop, self._patience, self)
        self.ledger, self.dispatcher, self.intake = parts.ledger, parts.dispatcher, parts.intake
        self.link, self.publisher, self.store = parts.link, parts.publisher, parts.store
        self.shelf, self.redelivery_guard, self.dead_child = parts.shelf, parts.redelivery_guard, parts.dead_child
        self._returns, self._leases, self.pool = parts.returns, parts.leases, parts.pool
        self._purge = self._options.purge
        self._companions: list[Companion] = []

    def add_companion(self, companion: Companion) -> None:
        """Start it before the worker is ready, stop it last. Call before :meth:`run`."""
        self._companions.append(companion)

    # -- running -----------------------------------------------------------------------------------------

    async def run(self, earlier: Sequence[Request] = ()) -> int:
        """Run until stopped; return the exit code. ``earlier`` is carried out first."""
        os_signals.install(self._loop, self._requested)
        self._loop.set_exception_handler(supervision.report)
        self.pool.start()
        await self.store.start()
        await self.publisher.start()
        if self._purge:
            # Nothing may be delivered before the purge: it does not delete prefetched messages.
            await self.link.cancel_consumers()
        # This runs until the last task has ended: running tasks keep their leases while the worker stops.
        self._renewing = self._loop.create_task(supervision.keep_running("leases", self._leases.run), name="leases")
        self._tasks = [
            self._loop.create_task(supervision.keep_running(name, run), name=name)
            for name, run in self.parts.loops().items()
        ]
        self._tasks.append(self._loop.create_task(supervision.or_die(self._announce, self.die), name="announce"))
        for request in earlier:
            self._requested(request)
        await self._stop_wanted.wait()
        await self._stop()
        os_signals.remove(restarting=self.restarting)
        return self.exit_code

    async def _announce(self) -> None:
        """Log that the worker is ready, when it is; return early if it gives up."""
        if not await self._patience.wait_for_broker(self.link, self.publisher, self.intake):
            return
        if self._purge:
            count = await self.link.purge()
            logger.warning("purge: Erased %d message%s from the queues.", count, "" if count == 1 else "s")
            if not self._stop_wanted.is_set():
                await self.link.resume_consumers()
        # An autoscaled worker may begin without children.
        while self.parts.resizing.size.count and not self.pool.serving and self._fatal is None:
            await asyncio.sleep(_DRAIN_STEP)
        for companion in self._companions:
            await companion.start()
        if self.phase is Phase.STARTING:
            self.phase = Phase.RUNNING
        self.ready_at = time.monotonic()
        logger.info("%s ready.", self._options.hostname)
        self.parts.hooks.ready()

    def shut_down(self) -> None:
        """Stop warm, as remote control asks."""
        self._requested(Request.REMOTE)

    def _requested(self, request: Request) -> None:
        """Carry out the request of a signal, a deadline or remote control."""
        remap = os.environ.get("REMAP_SIGTERM") == "SIGQUIT"
        phase, code = on_request(
            self.phase, request, soft_timeout=self._options.soft_shutdown_timeout, remap_term=remap
        )
        self.asked_to_stop = True
        self.restarting = restarts(self.phase, request, restarting=self.restarting)
        for line in shutdown_lines.printed(self.phase, request, phase):
            say(line)
        if phase is self.phase:
            return
        logger.warning("%s: %s shutdown", request.name, phase.name.lower())
        if phase is Phase.SOFT:
            logger.warning(shutdown_lines.SOFT, self._options.soft_shutdown_timeout)
        self._tell_hooks(request, phase, max(self.exit_code, code))
        self.phase, self.exit_code = phase, max(self.exit_code, code)
        self._phase_changed.set()
        self._stop_wanted.set()

    def _tell_hooks(self, request: Request, phase: Phase, code: int) -> None:
        """Tell the hooks once of a warm and once of a cold stop.

        A soft shutdown is a cold one that waits. A deadline has no signal of its own: the last one is named.
        """
        if request not in (Request.DEADLINE, Request.REMOTE):
            self._asked_by = f"SIG{request.name}"
        how = "Warm" if phase is Phase.WARM else "Cold"
        if how != self._told:
            self._told = how
            self.parts.hooks.shutting_down(self._asked_by, how, code)

    def die(self, error: BaseException) -> None:
        """End now because of an error that the worker cannot work with; log it."""
        logger.critical("Unrecoverable error: %r: the worker gives up", error)
        self._fatal = error
        self.exit_code = 1
        self.phase = Phase.COLD
        self._phase_changed.set()
        self._stop_wanted.set()

    def spawner_gone(self) -> None:
        """Finish the tasks and end: no child can be made. The command runs again."""
        logger.critical("The spawner process has died: this worker finishes its running tasks and starts anew")
        self.spawner_died = True
        self.exit_code = 1
        self.phase = max(self.phase, Phase.WARM)
        self._stop_wanted.set()

    @property
    def starting(self) -> bool:
        """Whether the worker has not been ready so far."""
        return self.phase is Phase.STARTING

    def end_at_start(self, error: Exception, code: int) -> None:
        """End now with ``code``, because there is no broker."""
        self.die(error)
        self.exit_code = code

    def give_up_broker(self, why: str) -> None:
        """Finish the tasks and end with 1: the settings forbid to wait."""
        if self.phase in (Phase.STARTING, Phase.RUNNING):
            logger.critical("The worker does not wait for the broker any longer: %s", why)
            self.exit_code = 1
            self._requested(Request.REMOTE)

    # -- stopping ----------------------------------------------------------------------------------------

    async def _stop(self) -> None:
        """Carry out the phase that was asked for, and the phases that it turns into."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        if self.phase is not Phase.COLD:
            self.parts.batches.flush()  # for free children; what none of them claims goes back
        await self._stop_consuming()
        if self.phase is Phase.SOFT:
            await self._wait_for_tasks(self._options.soft_shutdown_timeout)
            self._requested(Request.DEADLINE)
        elif self.phase is Phase.WARM:
            if not await self._wait_for_tasks(self._options.shutdown_timeout):
                self._requested(Request.DEADLINE)
        if self.phase is Phase.COLD:
            self.dead_child.terminating = True
            self.pool.kill_all("shutdown", but=lambda child: child.is_leaving)
            if not await self._wait_for_children(_CLOSING):
                self.pool.kill_all("shutdown")
                await self._wait_for_children(_CLOSING)
        await self._close()
        self.phase = Phase.STOPPED

    async def _stop_consuming(self) -> None:
        """Cancel the consumers and hand back what no child has started."""
        try:
            async with asyncio.timeout(_CLOSING):
                await self.link.cancel_consumers()
        except TimeoutError:
            logger.warning("The broker does not answer the cancelling of consumers; going on")
        self.intake.closed = True
        held = [*self.shelf.withdraw(), *self.parts.rate_limits.withdraw(), *self.redelivery_guard.withdraw()]
        held += [*self.parts.parking.withdraw(lost=False), *self._returns.withdraw(lost=False)]
        held += self.intake.take_paused()
        self._hand_back([*self.dispatcher.withdraw(), *held, *self.parts.batches.withdraw()])
        self.pool.close()
        self._hand_back(self.dispatcher.withdraw())

    def _hand_back(self, unstarted: list[Delivery]) -> None:
        """Return unstarted messages to their queues, uncounted; some are batches."""
        for delivery in units.flat(unstarted):
            if delivery.acked:
                self.parts.poison.return_unrun(delivery)
            else:
                self._returns.give_back(delivery)

    async def _wait_for_tasks(self, timeout: float | None) -> bool:
        """Wait until every child is gone; False: too late, or another phase."""
        self._phase_changed.clear()
        phase = self.phase
        report = DrainReport(self.pool, self.parts.failure_documents, phase, timeout)

        def phase_changed() -> bool:
            report.look()
            return self.phase is not phase

        return await self._wait_for_children(timeout, give_up=phase_changed) and self.phase is phase

    async def _wait_for_children(self, timeout: float | None, give_up: Callable[[], bool] | None = None) -> bool:
        """Wait until every child is gone.

        False: ``timeout`` seconds passed, or ``give_up()`` was true. Meanwhile hand back what leaving children return.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.pool.children:
            if deadline is not None and time.monotonic() >= deadline:
                return False
            if give_up is not None and give_up():
                return False
            self._hand_back(self.dispatcher.withdraw())
            for child in list(self.pool.children.values()):
                self.pool.dismiss(child)
            await asyncio.sleep(_DRAIN_STEP)
        return True

    async def _close(self) -> None:
        """Store and confirm what is left, settle it, and close the connections."""
        self._hand_back(self.dispatcher.withdraw())
        # Receivers of the worker's last signals have as long as any other receiver; then the worker goes on without.
        await self.parts.hooks.stop(time.monotonic() + self._options.hook_timeout + _CLOSING)
        self._renewing.cancel()
        await asyncio.wait([self._renewing])
        deadline = time.monotonic() + _CLOSING
        await self.publisher.drain(deadline)
        await self.store.drain(deadline)
        self.parts.settlement.send_all_waiting()
        await self.publisher.drain(deadline)
        self.link.flush()
        await self._leases.copies.finish(deadline)
        await self._leases.copies.close()
        closing = time.monotonic() + _CLOSING
        for companion in self._companions:
            await companion.stop(closing)
        await self.store.stop(closing)
        await self.link.stop(closing)
        await self.publisher.stop(closing)
