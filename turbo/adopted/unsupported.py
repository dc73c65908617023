"""Finds what a Celery app uses that has no effect here, beyond its settings.

Called once by ``adopted.settings``, in the command, when the app is complete. It must never change the app.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery import Celery, Task, signals
from celery.app.amqp import AMQP
from celery.app.control import Control
from celery.worker import strategy
from kombu.utils.imports import symbol_by_name

from turbo.adopted import batches, coroutine_tracing, steps
from turbo.app.conf.misspelt import misspelt

if TYPE_CHECKING:
    from collections.abc import Iterator

#: How many names a phrase lists; the rest are counted.
_NAMED = 5
#: The keys of ``user_options`` that are read; ``preload`` is for both commands.
_EXTENDED = frozenset({"worker", "beat", "preload"})


def without_effect(app: Celery) -> list[str]:
    """Return one phrase for each kind of thing that has no effect here."""
    return [*_steps(app), *_options(app), *_receivers(), *_parts(app), *_misspelt(app)]


def refused(app: Celery) -> list[str]:
    """Return one phrase for each task that must not run here.

    Its Strategy is ignored, or it cannot be awaited.
    """
    return [
        *coroutine_tracing.refused(app),
        *_with_strategies(app),
    ]


def _with_strategies(app: Celery) -> list[str]:
    return [
        f"task {name} defines Strategy ({_shown(task)}), which turbo's worker does not call: the task would get "
        "single messages. Run it with Celery's worker, on a queue and from an app of its own"
        for name, task in sorted(app.tasks.items())
        if _has_own_strategy(task)
    ]


def _has_own_strategy(task: Any) -> bool:
    if type(task).start_strategy is not Task.start_strategy:
        return True
    if batches.runs_batches(task):
        return False
    try:
        return symbol_by_name(task.Strategy) is not strategy.default
    except (ImportError, AttributeError):
        # Celery's worker would not start with it.
        return True


def _shown(task: Any) -> str:
    own = task.Strategy
    if type(task).start_strategy is not Task.start_strategy:
        own = type(task).start_strategy
    return own if isinstance(own, str) else f"{own.__module__}.{own.__qualname__}"


def _misspelt(app: Celery) -> Iterator[str]:
    """Yield a line for each name that looks like a misspelt setting.

    Celery's own names are left out.
    """
    app.conf.finalize()
    *layers, defaults = app.conf.maps
    names = {name for layer in layers if isinstance(layer, dict) for name in layer if isinstance(name, str)}
    for name, near in misspelt(names - set(defaults)):
        yield f"{name} (there is no such setting; did you mean {near}?)"


def _parts(app: Celery) -> Iterator[str]:
    if type(app).Worker is not Celery.Worker or type(app).WorkController is not Celery.WorkController:
        yield "a Worker class of the app's own (the worker is turbo's)"
    if symbol_by_name(app.amqp_cls).TaskConsumer is not AMQP.TaskConsumer:
        yield "TaskConsumer of amqp_cls (turbo consumes by itself; queues, routes and sending are the app's)"
    if symbol_by_name(app.control_cls).Mailbox is not Control.Mailbox:
        yield "Mailbox of control_cls (turbo answers by a mailbox of its own)"


def _steps(app: Celery) -> Iterator[str]:
    names = sorted(map(_name_of, steps.idle(app, steps.WORKER)))
    if names:
        yield f"app.steps['worker'] {_listed(names)} (of Celery's worker, bootsteps can require its Timer only)"
    names = sorted(map(_name_of, steps.idle(app, steps.CONSUMER)))
    if names:
        yield f"app.steps['consumer'] {_listed(names)} (only a ConsumerStep runs, on a connection of its own)"


def _options(app: Celery) -> Iterator[str]:
    for command in sorted(set(app.user_options) - _EXTENDED):
        names = sorted(str(getattr(option, "name", option)) for option in app.user_options[command])
        if names:
            yield f"app.user_options[{command!r}] {_listed(names)} (only turbo worker and turbo beat take an app's)"


def _receivers() -> Iterator[str]:
    if signals.worker_before_create_process.receivers:
        yield "receivers of worker_before_create_process (children are forked by a process that runs no app's code)"
    if signals.heartbeat_sent.receivers:
        yield "receivers of heartbeat_sent (heartbeats are sent by the master's loop, which runs no app's code)"


def _name_of(step: Any) -> str:
    return step if isinstance(step, str) else str(step.name)


def _listed(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= _NAMED else f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED} more"
