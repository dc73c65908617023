"""The worker bootsteps of an app of turbo's own.

Those that consume share one connection.

Called in the command, to name the steps that do not run, and in the master by ``native.hooks``. Steps name what they
require by class or dotted name. Of the worker there is the timer; of the consumer a connection, for a ``ConsumerStep``.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

from turbo.amqp.client.step_connection import StepConnection
from turbo.amqp.tls import tls_options
from turbo.amqp.url import parse_broker_urls
from turbo.app.conf.loading import resolve
from turbo.bootsteps import ConsumerStep, Step
from turbo.exceptions import ImproperlyConfigured
from turbo.master.bootsteps import Bootsteps
from turbo.master.consumer_steps import ConsumerSteps
from turbo.master.worker_steps import WorkerSteps
from turbo.policy.step_order import in_order
from turbo.protocol.content import accept_set

if TYPE_CHECKING:
    from collections.abc import Iterator

    from turbo.app.base import Turbo
    from turbo.master.outcome.hook_thread import HookThread
    from turbo.native.facade import Worker

_WORKER: Final = "worker"
_CONSUMER: Final = "consumer"
#: What is there for steps to require, by blueprint.
_THERE: Final = {
    _WORKER: frozenset({"turbo.worker.components.Timer"}),
    _CONSUMER: frozenset({"turbo.worker.consumer.Connection", "turbo.worker.consumer.connection.Connection"}),
}
_KIND: Final[dict[str, type[Step]]] = {_WORKER: Step, _CONSUMER: ConsumerStep}
_ONLY: Final = {
    _WORKER: "a worker step may require other steps and turbo.worker.components:Timer",
    _CONSUMER: "only a turbo.bootsteps.ConsumerStep runs, on a connection of its own",
}


def runnable(app: Turbo, blueprint: str) -> list[type[Step]]:
    """Return the classes of the steps that run, each after its requirements.

    Raises ImproperlyConfigured for a step that cannot be imported.
    """
    own = [step for step in _given(app, blueprint) if isinstance(step, type) and issubclass(step, _KIND[blueprint])]
    return in_order(own, _place, lambda step: {_place(each) for each in step.requires}, _THERE[blueprint])


def idle(app: Turbo) -> Iterator[str]:
    """Yield a line for each step that does not run. Raises ImproperlyConfigured."""
    for blueprint in sorted(app.steps):
        if blueprint not in _KIND:
            yield f"app.steps[{blueprint!r}] has no effect: there are steps of worker and of consumer"
            continue
        ran = runnable(app, blueprint)
        for step in _given(app, blueprint):
            if step not in ran:
                yield f"the bootstep {_place(step)} of app.steps[{blueprint!r}] does not run: {_ONLY[blueprint]}"


def bootsteps(app: Turbo, worker: Worker, hooks: HookThread) -> Bootsteps:
    """Return the bootsteps of an app."""
    of_worker = runnable(app, _WORKER)
    of_consumer = runnable(app, _CONSUMER)
    return Bootsteps(
        hooks,
        WorkerSteps(of_worker, worker) if of_worker else None,
        ConsumerSteps(of_consumer, worker.consumer, lambda: worker.options, lambda: _connected(app))
        if of_consumer
        else None,
    )


def _given(app: Turbo, blueprint: str) -> list[Any]:
    found = set()
    for step in app.steps.get(blueprint, ()):
        try:
            found.add(resolve(step))
        except (ImportError, AttributeError) as error:
            raise ImproperlyConfigured(f"app.steps[{blueprint!r}]: {step!r} cannot be imported: {error}") from error
    return sorted(found, key=_place)


def _place(step: Any) -> str:
    """Return the dotted name of a step's class.

    Celery's names of the worker's own parts stand for turbo's.
    """
    if isinstance(step, str):
        name = step.replace(":", ".")
        return f"turbo.{name.removeprefix('celery.')}" if name.startswith("celery.worker.") else name
    return f"{getattr(step, '__module__', '')}.{getattr(step, '__qualname__', step)}"


class _Connected:
    """The connection of the steps."""

    def __init__(self, connection: StepConnection) -> None:
        self.handle = connection
        self.serve = connection.serve


@contextlib.contextmanager
def _connected(app: Turbo) -> Iterator[_Connected]:
    conf = app.conf
    ssl = conf["broker_use_ssl"]
    addresses = parse_broker_urls(conf["broker_read_url"], tls=bool(ssl))
    accept = accept_set(conf["accept_content"])
    with StepConnection(addresses, tls_options(ssl), conf["broker_heartbeat"] or 0.0, accept) as connection:
        yield _Connected(connection)
