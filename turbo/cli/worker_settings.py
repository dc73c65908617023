"""Merges command line, environment and configuration into ``WorkerOptions``.

Runs in the command, between the parsed command line and ``worker.wiring``. As in Celery, command-line values are first
written into the app's configuration, so that tasks and libraries read the worker's values there. Starts nothing.
"""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any, Final, TypeVar

from turbo.app.conf.settings import SETTINGS
from turbo.cli.nodename import file_name
from turbo.cli.pools import Pool, pool_kind
from turbo.cli.quantities import children, kib, usable_cpus
from turbo.cli.remote_commands import truth
from turbo.cli.suggestions import hint
from turbo.exceptions import ImproperlyConfigured
from turbo.log_format import LogSetup, level_number
from turbo.policy.autoscaling import KEEPALIVE
from turbo.policy.revoked import MOST, SPAN
from turbo.policy.worker_options import WorkerOptions
from turbo.protocol.content import accept_set
from turbo.worker import heartbeat_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from turbo.app.conf.conf import Settings

_N = TypeVar("_N", int, float)

#: The settings behind command-line options, by the option's name.
_SETTING_OF: Final[Mapping[str, str]] = {
    setting.cli.removeprefix("--").replace("-", "_"): name for name, setting in SETTINGS.items() if setting.cli
}
#: With messages of half a kilobyte, some 30 MB at most. Celery has no limit here and grows until it is killed.
_DEFAULT_ETA_LIMIT: Final = 20_000
#: Seconds. A shorter lease would run out while a slow broker confirms the copy.
_SHORTEST_LEASE: Final = 5.0
#: Seconds between worker-heartbeat events, as in Celery.
_HEARTBEAT: Final = 2.0
#: Seconds. Celery kills a child that has not started after 4 s, repeatedly if imports take longer.
_DEFAULT_ALIVE_TIMEOUT: Final = 60.0

_TYPED: Final = re.compile(r"\((\w+)\)")
#: The types that a trailing setting=value may name. Celery reads lists and mappings as JSON too.
_TYPES: Final[Mapping[str, Callable[[str], Any]]] = {
    "bool": truth, "dict": json.loads, "float": float, "int": int, "json": json.loads, "list": json.loads,
    "str": str, "string": str, "tuple": json.loads,
}  # fmt: skip


def write_into(conf: Settings, given: Mapping[str, Any]) -> None:
    """Write the command line's values into the configuration.

    ``given`` holds None for options not given. Raises ImproperlyConfigured for a trailing ``setting=value`` with an
    unknown setting.
    """
    for override in given["overrides"]:
        setting, value = _override(override)
        conf[setting] = value
    for option, setting in _SETTING_OF.items():
        # Global options such as --broker are not in ``given``: they are already in the environment.
        value = given.get(option)
        if option != "include" and value is not None and value is not False:
            conf[setting] = value
    if given["include"]:
        conf["include"] = (*conf["include"], *given["include"])


def _override(text: str) -> tuple[str, Any]:
    """Return setting and value of a trailing ``setting=value``.

    As in Celery, ``worker.x``, ``worker_x`` and ``_x`` are the same, in any case, and ``(json)`` before the value says
    its type. ``x`` is short for ``worker_x``. Raises ImproperlyConfigured.
    """
    name, equals, value = text.partition("=")
    if not equals or not name.strip("._"):
        raise ImproperlyConfigured(f"{text!r} must be setting=value, such as worker.prefetch_multiplier=1")
    setting = name.lower().replace(".", "_")
    short = setting not in SETTINGS and ("_" not in setting or f"worker_{setting}" in SETTINGS)
    if short or setting.startswith("_"):
        setting = f"worker_{setting.lstrip('_')}"
    if setting not in SETTINGS:
        raise ImproperlyConfigured(f"{text!r}: unknown setting {setting}{hint(setting, SETTINGS)}")
    typed = _TYPED.match(value)
    if typed is None:
        return setting, value
    convert = _TYPES.get(typed[1])
    try:
        if convert is None:
            raise ValueError(f"unknown type ({typed[1]}); there are {', '.join(_TYPES)}")
        return setting, convert(value[typed.end() :])
    except ValueError as error:
        raise ImproperlyConfigured(f"{text!r}: {error}") from None


def log_setup(conf: Settings, level: int, logfile: str | None) -> LogSetup:
    """Return the worker's log set-up.

    Raises ImproperlyConfigured for an unknown level.
    """
    try:
        redirect = level_number(conf["worker_redirect_stdouts_level"]) if conf["worker_redirect_stdouts"] else None
    except ValueError as error:
        raise ImproperlyConfigured(f"worker_redirect_stdouts_level: {error}") from None
    return LogSetup(
        level=level,
        logfile=logfile,
        worker_format=conf["worker_log_format"],
        worker_datefmt=conf["worker_log_datefmt"],
        task_format=conf["worker_task_log_format"],
        task_datefmt=conf["worker_task_log_datefmt"],
        json=conf["worker_log_json"],
        colour=conf["worker_log_color"],
        hijack_root=conf["worker_hijack_root_logger"],
        redirect_level=redirect,
    )


def worker_options(
    conf: Settings, given: Mapping[str, Any], *, hostname: str, level: int, logfile: str | None
) -> WorkerOptions:
    """Return the merged options (after ``write_into``). Raises ImproperlyConfigured."""
    soft, hard = _limits(conf)
    at_start = conf["broker_connection_retry_on_startup"]
    eta_limit = conf["worker_eta_task_limit"]
    return WorkerOptions(
        hostname=hostname,
        **_children(conf, given),
        time_limit=hard,
        soft_time_limit=soft,
        max_tasks_per_child=conf["worker_max_tasks_per_child"] or None,
        max_memory_per_child=_checked("worker_max_memory_per_child", kib, conf),
        max_memory_per_child_hard=_checked("worker_max_memory_per_child_hard", kib, conf),
        async_concurrency=max(1, conf["worker_async_concurrency"]),
        task_max_deliveries=conf["task_max_deliveries"],
        proc_alive_timeout=_if_set(conf, "worker_proc_alive_timeout") or _DEFAULT_ALIVE_TIMEOUT,
        hook_timeout=conf["worker_hook_timeout"],
        shutdown_timeout=conf["worker_shutdown_timeout"],
        soft_shutdown_timeout=conf["worker_soft_shutdown_timeout"] or 0.0,
        eta_task_limit=_DEFAULT_ETA_LIMIT if eta_limit is None else eta_limit,
        disable_rate_limits=bool(conf["worker_disable_rate_limits"]),
        delivery_lease=_lease(conf),
        eta_park_after=_park_after(conf),
        broker_heartbeat=conf["broker_heartbeat"] or 0.0,
        broker_connection_timeout=conf["broker_connection_timeout"],
        broker_connection_retry_on_startup=conf["broker_connection_retry"] if at_start is None else at_start,
        wait_when_refused=bool(at_start),
        broker_connection_retry=conf["broker_connection_retry"],
        # Celery gives up after a hundred attempts, but a broker may be away for longer: give up only if configured.
        broker_connection_max_retries=_if_set(conf, "broker_connection_max_retries") or None,
        delay_queue_type=_one_of(conf, "broker_native_delayed_delivery_queue_type", ("quorum", "classic")),
        track_started=conf["task_track_started"],
        heartbeat_interval=None if given["without_heartbeat"] else float(given["heartbeat_interval"] or _HEARTBEAT),
        mingle=not given["without_mingle"],
        state_db=file_name(conf["worker_state_db"], hostname) if conf["worker_state_db"] else None,
        heartbeat_file=_heartbeat_file(conf, hostname),
        revokes_max=_environment("CELERY_WORKER_REVOKES_MAX", MOST, int),
        revoke_expires=_environment("CELERY_WORKER_REVOKE_EXPIRES", SPAN, float),
        accept_content=accept_set(conf["accept_content"]),
        max_body_size=conf["worker_max_message_bytes"],
        result_expires=conf["result_expires"] or None,
        loglevel=level,
        logfile=logfile,
        purge=bool(given["purge"]),
        queues=given["queues"],
        exclude_queues=given["exclude_queues"],
    )


def _children(conf: Settings, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options for the number of children and the prefetch window."""
    pool = _pool(conf)
    threads: int | None = None
    if pool is Pool.SOLO:
        most, least = 1, None
    else:
        most, least = given["autoscale"] or (_checked("worker_concurrency", children, conf) or usable_cpus(), None)
    adaptive, multiplier = _window(conf, given, most)
    if pool is Pool.THREADS:
        most, threads = _divided(most, conf["worker_processes"] or 1, autoscaled=least is not None)
    return {
        "concurrency": most,
        "threads": threads,
        "autoscale_least": least,
        "autoscale_keepalive": _keepalive(),
        "prefetch_multiplier": multiplier,
        "adaptive_prefetch": adaptive,
    }


def _pool(conf: Settings) -> Pool:
    """Return the pool.

    Raises ImproperlyConfigured for one that is not supported.
    """
    try:
        return pool_kind(conf["worker_pool"])
    except ValueError as error:
        raise ImproperlyConfigured(f"worker_pool={error}") from None


def _divided(threads: int, processes: int, *, autoscaled: bool) -> tuple[int, int]:
    """Return the number of children and of threads in each.

    Raises ImproperlyConfigured if they do not divide.
    """
    if autoscaled:
        raise ImproperlyConfigured(
            "--autoscale is not supported with -P threads: an idle thread costs nothing, so use -c with the most tasks "
            "that may run at once"
        )
    if processes < 1 or threads % processes:
        raise ImproperlyConfigured(
            f"{threads} threads cannot be divided over {processes} processes: make -c a multiple of --processes"
        )
    return processes, threads // processes


def _heartbeat_file(conf: Settings, hostname: str) -> str | None:
    """Return the path of the heartbeat file, or None.

    Raises ImproperlyConfigured if it cannot be written.
    """
    if not conf["worker_heartbeat_file"]:
        return None
    path = file_name(conf["worker_heartbeat_file"], hostname)
    heartbeat_file.check(path)
    return path


def _if_set(conf: Settings, setting: str) -> Any:
    """Return the value of a setting that was set; None if it was not."""
    return conf[setting] if conf.is_set(setting) else None


def _limits(conf: Settings) -> tuple[float | None, float | None]:
    """Return soft and hard time limit in seconds.

    Raises ImproperlyConfigured unless the soft one is lower.
    """
    soft, hard = conf["task_soft_time_limit"] or None, conf["task_time_limit"] or None
    if soft and hard and soft >= hard:
        raise ImproperlyConfigured(f"the soft time limit ({soft} s) must be below the hard one ({hard} s)")
    return soft, hard


def _lease(conf: Settings) -> float | None:
    """Return the lease in seconds, or None.

    Raises ImproperlyConfigured if it is too short to be renewed in time.
    """
    seconds: float | None = conf["worker_delivery_lease"]
    if seconds and seconds < _SHORTEST_LEASE:
        raise ImproperlyConfigured(
            f"worker_delivery_lease={seconds!r} must be at least {_SHORTEST_LEASE:g} seconds, or 0 for no leases"
        )
    return seconds or None


def _park_after(conf: Settings) -> float | None:
    """Return ``worker_eta_park_after`` in seconds, or None.

    Raises ImproperlyConfigured for a negative number.
    """
    seconds: float | None = conf["worker_eta_park_after"]
    if seconds is not None and seconds < 0:
        raise ImproperlyConfigured(f"worker_eta_park_after={seconds!r} must be a number of seconds, or None")
    return seconds


def _environment(name: str, default: _N, convert: Callable[[str], _N]) -> _N:
    """Return a number from an environment variable, or the default.

    Raises ImproperlyConfigured.
    """
    text = os.environ.get(name)
    if not text:
        return default
    try:
        return convert(text)
    except ValueError:
        raise ImproperlyConfigured(f"{name}={text!r} is not a number") from None


def _keepalive() -> float:
    """Return AUTOSCALE_KEEPALIVE in seconds.

    Raises ImproperlyConfigured unless it is a positive number.
    """
    seconds = _environment("AUTOSCALE_KEEPALIVE", KEEPALIVE, float)
    if not 0 < seconds < float("inf"):
        raise ImproperlyConfigured(f"AUTOSCALE_KEEPALIVE={seconds:g} must be above zero")
    return seconds


def _one_of(conf: Settings, setting: str, values: tuple[str, ...]) -> str:
    value: str = conf[setting]
    if value not in values:
        raise ImproperlyConfigured(f"{setting}={value!r} must be {' or '.join(values)}")
    return value


def _checked(setting: str, convert: Any, conf: Settings) -> int | None:
    try:
        value: int | None = convert(conf[setting])
    except ValueError as error:
        raise ImproperlyConfigured(f"{setting}: {error}") from None
    return value


def _window(conf: Settings, given: Mapping[str, Any], concurrency: int) -> tuple[bool, int]:
    """Return whether the window adapts, and its first messages per child.

    An explicit multiplier fixes the window, unless ``--prefetch adaptive`` or ``worker_prefetch_adaptive`` is given.
    """
    asked = given["prefetch"] or conf["worker_prefetch"]
    multiplier = conf["worker_prefetch_multiplier"]
    if conf["worker_disable_prefetch"]:
        return False, 1
    if asked == "fixed" or multiplier == 0:
        return False, multiplier
    if asked != "adaptive":
        try:
            total = int(asked)
        except (TypeError, ValueError):
            raise ImproperlyConfigured(f"worker_prefetch={asked!r} must be adaptive, fixed or a number") from None
        return False, max(1, -(-total // concurrency))
    lifted = given["prefetch"] is not None or conf["worker_prefetch_adaptive"]
    return lifted or not conf.is_set("worker_prefetch_multiplier"), multiplier
