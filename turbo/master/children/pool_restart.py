"""Restarts the pool with newly imported code, beside the running one.

Runs in the master; a companion of it. Before it: ``control.pool_commands``. After it: ``spawner.fresh_start``, which
imports the app in a process of its own, and ``master.children.handover``, which replaces the old children. Nothing of
the running pool changes until a first child of the new code serves: an import that fails, a process that is killed or a
child that cannot start end the restart, and the old code goes on. A later request replaces one that still imports. It
must never end the worker.

Why any process may die at any moment. Every child knows by its spawner whom it belongs to, and deliveries belong to
children, not to spawners; so each death is one of these. *The new spawner, before its first child serves:* the restart
fails, and the current spawner was never another one. *The old spawner, while the new code is imported:* as without a
restart, the worker ends its tasks and runs its command anew, which imports the new code too. *The old spawner, later:*
it makes no children any more; those that it left become the master's, which reaps them as they end. *The new spawner,
later:* it is the current one, so the worker runs its command anew; the children of both finish their tasks first. *A
child:* its slot is filled by the current spawner. *The master:* the kernel ends both spawners and all children.
"""

from __future__ import annotations

import asyncio
import logging
import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from turbo.exceptions import TurboError
from turbo.master.children.dead_child import describe_exit
from turbo.observers import Observers
from turbo.spawner.fresh_start import FreshStartFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from turbo.master.children.child_process import ChildProcess
    from turbo.master.children.handover import Handover
    from turbo.master.children.pool import Pool
    from turbo.master.children.pool_size import PoolSize
    from turbo.master.children.spawners import Spawners
    from turbo.master.delivery.task_changes import TaskChanges
    from turbo.policy.task_options import TaskOptions
    from turbo.spawner.fresh_start import FreshStart
    from turbo.spawner.handle import Spawner

    #: Starts a process that imports the app and these modules. Raises OSError.
    Starter = Callable[[Sequence[str]], FreshStart]
    Tasks = Mapping[str, TaskOptions]

logger = logging.getLogger("turbo.worker")

#: Seconds that the import may take.
_LONGEST_IMPORT: Final = 600.0
#: How often a first child is started while the pool shrinks.
_MOST_TRIALS: Final = 5


class PoolRestartFailed(TurboError):
    """The restart of the pool has failed; the old code goes on."""


class _PlaceRemoved(PoolRestartFailed):
    """The pool shrank by the place of the first child."""


@dataclass(frozen=True, slots=True)
class _Trial:
    """The first child of the new code, and the old one whose place it takes, if any."""

    spawner: Spawner
    tasks: Tasks
    child: ChildProcess
    leaving: ChildProcess | None
    serves: asyncio.Future[None]


class PoolRestart:
    """Restarts the pool of one worker, as often as it is asked to."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pool: Pool,
        spawners: Spawners,
        handover: Handover,
        size: PoolSize,
        start: Starter,
        changes: TaskChanges,
    ) -> None:
        self._loop = loop
        self._pool = pool
        self._spawners = spawners
        self._handover = handover
        self._size = size
        self._start_process = start
        self._changes = changes
        #: What remote control has had imported besides the app, by earlier restarts.
        self._modules: tuple[str, ...] = ()
        self._running: asyncio.Task[None] | None = None
        self._trial: _Trial | None = None
        #: What the last restart does or has done, for ``inspect stats``; empty before the first.
        self.state = ""
        #: Called with the options of the tasks that the new code adds or declares in another way.
        self.on_tasks_changed: Observers[Tasks] = Observers()
        pool.on_serving.add(self._serving)
        pool.on_gone.add(self._gone)
        spawners.on_lost.add(self._lost)
        handover.on_done.add(self._done)

    async def start(self) -> None:
        """There is nothing to start before a request."""

    async def stop(self, deadline: float) -> None:
        """End a restart that is under way."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    def begin(self, modules: Sequence[str] = ()) -> asyncio.Future[None]:
        """Import the app and ``modules`` anew, then replace all children.

        The future ends when the first new child serves. It raises PoolRestartFailed with the reason if none does.
        """
        begun: asyncio.Future[None] = self._loop.create_future()
        # The failure is logged, so nobody needs to wait for it.
        begun.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        before, every = self._running, tuple(dict.fromkeys((*self._modules, *modules)))
        self._running = self._loop.create_task(self._run(every, before, begun), name="pool restart")
        return begun

    # -- inside ------------------------------------------------------------------------------------------

    async def _run(
        self, modules: tuple[str, ...], before: asyncio.Task[None] | None, begun: asyncio.Future[None]
    ) -> None:
        try:
            if before is not None and not before.done():
                before.cancel()
                await asyncio.wait([before])
            await self._restart(modules)
        except asyncio.CancelledError:
            self._failed(begun, "a later restart or the end of the worker came first")
        except (PoolRestartFailed, FreshStartFailed, OSError) as error:
            self._failed(begun, str(error))
        except Exception as error:
            logger.critical("The restart of the pool failed in the main process", exc_info=True)
            self._failed(begun, repr(error))
        else:
            self._modules = modules
            begun.set_result(None)

    def _failed(self, begun: asyncio.Future[None], why: str) -> None:
        self.state = f"failed: {why}"
        logger.error("The pool is not restarted, and the old code goes on: %s", why)
        if not begun.done():
            begun.set_exception(PoolRestartFailed(why))

    async def _restart(self, modules: tuple[str, ...]) -> None:
        self.state = "importing"
        logger.info("The pool restarts: another process imports the app")
        fresh = self._start_process(modules)
        try:
            tasks = await self._imported(fresh)
            obstacle = self._changes.obstacle(tasks)
            if obstacle:
                raise PoolRestartFailed(obstacle)
            self.state = "starting the first child"
            self._spawners.listen(fresh.spawner)
            await self._tried_often(fresh.spawner, tasks)
        except BaseException:
            if fresh.spawner is not self._spawners.current:
                fresh.kill()
                self._spawners.end(fresh.spawner)
            raise

    async def _imported(self, fresh: FreshStart) -> Tasks:
        """Wait until the app is imported; return the options of its tasks."""
        answered: asyncio.Future[bytes] = self._loop.create_future()

        def readable() -> None:
            try:
                answer = fresh.receive()
            except FreshStartFailed as error:
                if not answered.done():
                    answered.set_exception(error)
                self._loop.remove_reader(fresh.fileno())
                return
            if answer is not None:
                self._loop.remove_reader(fresh.fileno())
                if not answered.done():
                    answered.set_result(answer)

        self._loop.add_reader(fresh.fileno(), readable)
        try:
            async with asyncio.timeout(_LONGEST_IMPORT):
                answer = await answered
        except TimeoutError:
            raise PoolRestartFailed(f"the import took longer than {_LONGEST_IMPORT:g} s") from None
        finally:
            self._loop.remove_reader(fresh.fileno())
            fresh.answered()
        tasks: Tasks = pickle.loads(answer)
        return tasks

    async def _tried_often(self, spawner: Spawner, tasks: Tasks) -> None:
        """Start a first child of the new code; try again if the pool shrinks by it."""
        for left in range(_MOST_TRIALS - 1, -1, -1):
            try:
                await self._tried(spawner, tasks)
            except _PlaceRemoved:
                if not left:
                    raise
            else:
                return

    async def _tried(self, spawner: Spawner, tasks: Tasks) -> None:
        """Start a first child of the new code in the place of an old one.

        The old one goes when the new one serves.
        """
        old = min(self._pool.serving, key=lambda child: len(child.assigned) + len(child.parked), default=None)
        slots = self._size.slots
        if old is None and not slots:
            self._switch(spawner, tasks)  # an autoscaled pool without children
            self._handover.begin()
            return
        child = self._pool.spawn(old.index if old is not None else slots[0], spawner)
        if child is None:
            raise PoolRestartFailed("no child of the new code could be requested")
        trial = self._trial = _Trial(spawner, tasks, child, old, self._loop.create_future())
        try:
            await trial.serves
        except BaseException:
            if spawner is not self._spawners.current and child.epoch in self._pool.children:
                self._pool.kill(child, "retired", None)
            raise
        finally:
            self._trial = None

    def _switch(self, spawner: Spawner, tasks: Tasks) -> None:
        self.state = "replacing the children"
        self._spawners.take_over(spawner)
        self.on_tasks_changed(self._changes.take_over(tasks))
        logger.info("The pool restarts: the app is imported (spawner's pid %d); replacing the children", spawner.pid)

    # -- what the pool reports ---------------------------------------------------------------------------

    def _serving(self, child: ChildProcess) -> None:
        trial = self._trial
        if trial is None or child is not trial.child or trial.serves.done():
            return
        # At once: nothing may happen to the new spawner between this and the switch.
        self._switch(trial.spawner, trial.tasks)
        trial.serves.set_result(None)
        if trial.leaving is not None:
            self._pool.retire(trial.leaving)
        self._handover.begin()

    def _gone(self, child: ChildProcess) -> None:
        if self._trial is None or child is not self._trial.child:
            return
        if child.index not in self._size.slots:
            self._trial_failed(_PlaceRemoved("the pool shrank by each place in which a child of the new code started"))
            return
        why = f"a child of the new code ended before it was ready ({describe_exit(child.exit_status)})"
        self._trial_failed(PoolRestartFailed(why))

    def _lost(self, spawner: Spawner, _epochs: list[int]) -> None:
        if self._trial is not None and spawner is self._trial.spawner:
            self._trial_failed(PoolRestartFailed("the new spawner process was killed"))

    def _trial_failed(self, error: PoolRestartFailed) -> None:
        if self._trial is not None and not self._trial.serves.done():
            self._trial.serves.set_exception(error)

    def _done(self) -> None:
        self.state = "done"
        logger.info("The pool has restarted: every child runs the code as it was imported")
