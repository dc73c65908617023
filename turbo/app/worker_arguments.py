"""Keyword arguments of ``app.Worker`` as a command line. Pure.

Celery's names and turbo's options are both taken. ``app.running`` makes a worker of turbo's own apps with it, and
``cli.startup.takeover`` one of Celery's.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, Final

from turbo.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Arguments that have another name on the command line.
_OPTION_OF: Final = {
    "O": "optimization",
    "pool_cls": "pool",
    "scheduler_cls": "scheduler",
    "schedule_filename": "schedule",
    "state_db": "statedb",
    "task_soft_time_limit": "soft-time-limit",
    "task_time_limit": "time-limit",
}
#: Arguments that are settings: those without an option, and flags for which False is a value too.
_SETTING_OF: Final = {
    "autoscaler_cls": "worker_autoscaler",
    "consumer_cls": "worker_consumer",
    "disable_prefetch": "worker_disable_prefetch",
    "disable_rate_limits": "worker_disable_rate_limits",
    "pool_putlocks": "worker_pool_putlocks",
    "pool_restarts": "worker_pool_restarts",
    "redirect_stdouts": "worker_redirect_stdouts",
    "redirect_stdouts_level": "worker_redirect_stdouts_level",
    "task_events": "worker_send_task_events",
    "timer_cls": "worker_timer",
    "timer_precision": "worker_timer_precision",
    "worker_lost_wait": "worker_lost_wait",
}
#: Arguments that turbo's worker cannot take, and what to use instead.
_REFUSED: Final = {
    "ready_callback": "connect a receiver to the signal worker_ready",
    "use_eventloop": "turbo's worker has its own event loop; leave it out",
}
#: Options that take names with commas between them.
_LISTS: Final = ("queues", "exclude_queues", "include")
#: Options of the whole command.
_GLOBAL: Final = ("no_color", "quiet")


def command_line(options: Mapping[str, Any]) -> list[str]:
    """Return the command line for keyword arguments.

    None means not given, and so does False for a flag. Raises ImproperlyConfigured, which says what to use instead, for
    an argument that turbo's worker cannot take.
    """
    before: list[str] = []
    after: list[str] = []
    overrides: list[str] = []
    for name, value in options.items():
        if value is None:
            continue
        if name in _REFUSED:
            raise ImproperlyConfigured(f"app.Worker({name}=...) is not supported: {_REFUSED[name]}")
        if name in _SETTING_OF:
            overrides.append(f"{_SETTING_OF[name]}=(json){json.dumps(_plain(name, value))}")
        elif value is not False:
            words = before if name in _GLOBAL else after
            words.append("--" + _OPTION_OF.get(name, name).replace("_", "-"))
            if value is not True:
                words.append(str(_plain(name, value)))
    return [*before, "worker", *after, *(["--", *overrides] if overrides else [])]


def _plain(name: str, value: Any) -> Any:
    """Return a value as the command line has it.

    Classes and levels become names, and lists have commas.
    """
    if isinstance(value, type):
        return f"{value.__module__}:{value.__qualname__}"
    if name in ("loglevel", "redirect_stdouts_level") and isinstance(value, int):
        return logging.getLevelName(value)
    if name in _LISTS and not isinstance(value, str):
        return ",".join(value)
    if name == "autoscale" and not isinstance(value, str | int):
        return ",".join(map(str, value))
    return value
