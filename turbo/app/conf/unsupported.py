"""Finds features of Celery that a turbo app uses and the worker does not support.

Called once by the command, when the app is complete and before anything is forked. It changes nothing. Single settings
are checked by ``Settings.check_supported`` in ``app.conf.conf``; this module checks the entries of settings that are
mappings, and attributes of the app, its tasks and its signals.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from turbo import signals
from turbo.app.conf.misspelt import misspelt
from turbo.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from collections.abc import Iterator

    from turbo.app.base import Turbo

#: Attributes by which a task of Celery replaces the worker's handling of its messages.
_STRATEGIES: Final = ("Strategy", "start_strategy")
#: Attributes of a Celery app's class that name its parts, and methods of a task's class that only Celery's code calls.
_PARTS: Final = ("amqp_cls", "backend_cls", "control_cls", "events_cls", "loader_cls", "log_cls", "registry_cls")
_NEVER_CALLED: Final = ("annotate", "request_stack")
#: Signals that turbo's worker never sends.
_NEVER_SENT: Final = (
    "eventlet_pool_apply", "eventlet_pool_postshutdown", "eventlet_pool_preshutdown",
    "eventlet_pool_started", "heartbeat_sent", "task_sent", "worker_before_create_process",
)  # fmt: skip
#: The supported entries of settings that are mappings.
_ENTRIES: Final = {
    "broker_transport_options": frozenset({"confirm_publish"}),
    "result_backend_transport_options": frozenset({"global_keyprefix", "result_chord_ordered"}),
    "task_publish_retry_policy": frozenset({"max_retries", "interval_start", "interval_step", "interval_max"}),
}
#: Names of the TLS version in ``broker_use_ssl``.
_VERSIONS: Final = ("ssl_version", "version")


def unsupported_features(app: Turbo) -> list[str]:
    """Return one line of text for each feature that has no effect.

    Raises one ImproperlyConfigured that names every task which cannot run without its strategy.
    """
    strategies = [
        f"task {name} defines {attribute}, which turbo's worker does not call: the task would get single messages. "
        "Run it with Celery's worker, on a queue and from an app of its own"
        for name, task in sorted(app.tasks.items())
        for attribute in _STRATEGIES
        if hasattr(type(task), attribute)
    ]
    if strategies:
        raise ImproperlyConfigured("; ".join(strategies))
    return [*_of_the_app(app), *_of_settings(app), *_of_signals(), *_of_tasks(app)]


def _of_settings(app: Turbo) -> Iterator[str]:
    for name, near in misspelt(app.conf):
        yield f"{name} has no effect: there is no such setting; did you mean {near}?"
    for setting, known in _ENTRIES.items():
        for name in sorted(str(name) for name in set(app.conf[setting] or ()) - known):
            yield f"{setting}[{name!r}] has no effect: turbo does not read it"
    tls = app.conf["broker_use_ssl"]
    for name in _VERSIONS if isinstance(tls, Mapping) else ():
        if name in tls:
            yield f"broker_use_ssl[{name!r}] has no effect: turbo uses the highest common version, at least 1.2"


def _of_signals() -> Iterator[str]:
    for name in _NEVER_SENT:
        if getattr(signals, name).receivers:
            yield f"receivers of {name} are never called: turbo's worker does not send that signal"


def _of_the_app(app: Turbo) -> Iterator[str]:
    for name in _PARTS:
        if hasattr(type(app), name):
            yield f"{name} of {type(app).__qualname__} has no effect: turbo does not use that class"


def _of_tasks(app: Turbo) -> Iterator[str]:
    kinds: set[type[Any]] = set()
    for name, task in sorted(app.tasks.items()):
        if task.has_own_backend:
            yield f"backend of task {name} has no effect in a worker: results are stored in result_backend"
        for kind in type(task).__mro__:
            own = [each for each in _NEVER_CALLED if each in vars(kind)]
            if own and kind not in kinds:
                kinds.add(kind)
                where = f"{kind.__module__}.{kind.__qualname__}"
                yield f"{' and '.join(own)} of {where} has no effect: turbo does not call it"
