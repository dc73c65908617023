"""The bootsteps of a Celery app that run in turbo's worker.

Those that consume share one connection.

Called in the command, to name the steps that do not run, and in the master by ``adopted.hooks``. A worker step may
require nothing of Celery's worker but its timer; of the consumer's, a ``ConsumerStep`` runs. Others have nothing to
start after; ``adopted.unsupported`` names them.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, Final

from celery.bootsteps import ConsumerStep, Step
from celery.worker import components
from celery.worker.consumer import Connection
from kombu.utils.imports import symbol_by_name

from turbo.master.bootsteps import Bootsteps
from turbo.master.consumer_steps import ConsumerSteps
from turbo.master.worker_steps import WorkerSteps
from turbo.policy.step_order import in_order

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery import Celery

    from turbo.adopted.facade import AdoptedWorker
    from turbo.master.outcome.hook_thread import HookThread

WORKER: Final = "worker"
CONSUMER: Final = "consumer"
#: What steps may require of Celery's worker, by blueprint, and the classes of which they have to be.
_THERE: Final[dict[str, frozenset[Any]]] = {
    WORKER: frozenset({components.Timer}),
    CONSUMER: frozenset({Connection}),
}
_KIND: Final = {WORKER: Step, CONSUMER: ConsumerStep}


def runnable(app: Celery, blueprint: str = WORKER) -> list[Any]:
    """Return the classes of the steps of a blueprint that run here.

    Each comes after those that it requires.
    """
    given = {symbol_by_name(step) for step in app.steps.get(blueprint, ())}
    own = sorted((step for step in given if issubclass(step, _KIND[blueprint])), key=lambda step: str(step.name))
    return in_order(own, lambda step: step, _required, _THERE[blueprint])


def idle(app: Celery, blueprint: str) -> list[Any]:
    """Return the steps of a blueprint that do not run here, as the app names them."""
    ran = runnable(app, blueprint)
    return [step for step in app.steps.get(blueprint, ()) if symbol_by_name(step) not in ran]


def bootsteps(app: Celery, worker: AdoptedWorker, hooks: HookThread) -> Bootsteps:
    """Return the bootsteps of an app."""
    of_worker = runnable(app)
    of_consumer = runnable(app, CONSUMER)
    return Bootsteps(
        hooks,
        WorkerSteps(of_worker, worker) if of_worker else None,
        ConsumerSteps(of_consumer, worker.consumer, lambda: worker.options, lambda: _connected(app))
        if of_consumer
        else None,
    )


def _required(step: Any) -> set[Any]:
    return {symbol_by_name(name) for name in step.requires}


class _Connected:
    """kombu's connection, with its heartbeats."""

    def __init__(self, connection: Any) -> None:
        self.handle = connection

    def serve(self, seconds: float) -> None:
        """Call the consumers for what arrives, for about so long, and send heartbeats."""
        deadline = time.monotonic() + seconds
        with contextlib.suppress(TimeoutError):
            while (left := deadline - time.monotonic()) > 0:
                self.handle.drain_events(timeout=left)
        # Also while messages come without a pause: a consumer that acknowledges nothing sends nothing else.
        self.handle.heartbeat_check()


@contextlib.contextmanager
def _connected(app: Celery) -> Iterator[_Connected]:
    with app.connection_for_read(heartbeat=app.conf.broker_heartbeat) as connection:
        connection.connect()
        yield _Connected(connection)
