"""What a program of turbo's own API asks of a worker, beyond single settings, that the worker has no place for.

Asked once by the command, when the app is complete and before anything is forked; it only looks. Settings answer for
themselves, see ``app.conf.conf``; here are the entries of those that hold several.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from turbo import signals
from turbo.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from collections.abc import Iterator

    from turbo.app.base import Turbo

#: How a task of Celery's takes messages on by itself.
_STRATEGIES: Final = ("Strategy", "start_strategy")
#: Parts of a Celery app's class that it is made of, and of a task's class that Celery's own code calls.
_PARTS: Final = ("amqp_cls", "backend_cls", "control_cls", "events_cls", "loader_cls", "log_cls", "registry_cls")
_NEVER_CALLED: Final = ("annotate", "request_stack", "send_event")
#: Signals that no worker of turbo's sends.
_NEVER_SENT: Final = (
    "beat_embedded_init", "beat_init", "eventlet_pool_apply", "eventlet_pool_postshutdown", "eventlet_pool_preshutdown",
    "eventlet_pool_started", "heartbeat_sent", "task_sent", "user_preload_options", "worker_before_create_process",
)  # fmt: skip
#: The entries that somebody reads of settings that hold several.
_ENTRIES: Final = {
    "broker_transport_options": frozenset({"confirm_publish"}),
    "result_backend_transport_options": frozenset({"global_keyprefix", "result_chord_ordered"}),
    "task_publish_retry_policy": frozenset({"max_retries", "interval_start", "interval_step", "interval_max"}),
}
#: Of ``broker_use_ssl``, with and without its prefix.
_VERSIONS: Final = ("ssl_version", "version")


def left_out(app: Turbo) -> list[str]:
    """One line for each thing that has no effect here.

    Raises ImproperlyConfigured, naming all tasks that must not run.
    """
    strategies = [
        f"task {name} has a {attribute} of its own, which nobody calls here: it would get single messages. "
        "Run it by a worker of Celery's, on a queue and from an app of its own"
        for name, task in sorted(app.tasks.items())
        for attribute in _STRATEGIES
        if hasattr(type(task), attribute)
    ]
    if strategies:
        raise ImproperlyConfigured("; ".join(strategies))
    return [*_of_the_app(app), *_of_settings(app), *_of_signals(), *_of_tasks(app)]


def _of_settings(app: Turbo) -> Iterator[str]:
    for setting, known in _ENTRIES.items():
        for name in sorted(str(name) for name in set(app.conf[setting] or ()) - known):
            yield f"{setting}[{name!r}] has no effect: nobody reads it here"
    tls = app.conf["broker_use_ssl"]
    for name in _VERSIONS if isinstance(tls, Mapping) else ():
        if name in tls:
            yield f"broker_use_ssl[{name!r}] has no effect: the best version known to both is taken, 1.2 at least"


def _of_signals() -> Iterator[str]:
    for name in _NEVER_SENT:
        if getattr(signals, name).receivers:
            yield f"receivers of {name} are never called: no worker of turbo's sends that signal"


def _of_the_app(app: Turbo) -> Iterator[str]:
    for name in _PARTS:
        if hasattr(type(app), name):
            yield f"{name} of {type(app).__qualname__} has no effect: turbo is built of other parts"


def _of_tasks(app: Turbo) -> Iterator[str]:
    default = app.conf["task_default_rate_limit"]
    kinds: set[type[Any]] = set()
    for name, task in sorted(app.tasks.items()):
        if task.rate_limit and task.rate_limit != default:
            yield (
                f"rate_limit={task.rate_limit!r} of task {name} has no effect: rates are not limited yet, see "
                "docs/compatibility.md; a queue of its own and a worker with few children bound it meanwhile"
            )
        if task.has_own_backend:
            yield f"backend of task {name} has no effect in a worker: what tasks return goes to result_backend"
        for kind in type(task).__mro__:
            own = [each for each in _NEVER_CALLED if each in vars(kind)]
            if own and kind not in kinds:
                kinds.add(kind)
                where = f"{kind.__module__}.{kind.__qualname__}"
                yield f"{' and '.join(own)} of {where} has no effect: nobody calls it here"
