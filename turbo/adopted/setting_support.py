"""Which code carries out each of Celery's settings when its app runs under turbo.

Used by warnings and docs.

Read in the command by ``adopted.settings`` at start-up, and by the script that writes the settings page, so it must
never import Celery. Three kinds of code read an app's settings: turbo's own (connections, queues, limits, processes),
Celery's own (tasks, results and sending run in it unchanged), and programs beside the worker (beat).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique
from typing import Final

from turbo.app.conf.setting import Status
from turbo.app.conf.settings import SETTINGS


@unique
class By(Enum):
    """The code that carries out a setting."""

    TURBO = "turbo"
    CELERY = "Celery's own code"
    NOBODY = "without effect"
    #: Any value but a harmless one stops the worker from starting.
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Support:
    """Which code carries out a setting, and the reason where none does."""

    by: By
    reason: str = ""


#: The first words of settings that a worker's own machinery reads. All others are read by Celery's code.
_MACHINERY: Final = ("worker_", "broker_", "control_", "event_")

#: Settings of tasks that both turbo's code and Celery's read.
_TURBOS: Final = frozenset(
    {
        "accept_content", "task_queues", "task_default_queue", "task_default_queue_type", "task_default_exchange",
        "task_default_exchange_type", "task_default_routing_key", "task_create_missing_queues",
        "task_create_missing_queue_type", "task_create_missing_queue_exchange_type", "task_queue_max_priority",
        "task_acks_late", "task_acks_on_failure_or_timeout", "task_acks_on_failure", "task_acks_on_timeout",
        "task_reject_on_worker_lost", "task_time_limit", "task_soft_time_limit", "task_default_rate_limit", "timezone",
        "enable_utc",
    }
)  # fmt: skip

#: Settings whose support differs between a Celery app and an app of turbo's own.
_DIFFERENT: Final[dict[str, Support]] = {
    "broker_host": Support(By.TURBO),
    "broker_transport": Support(By.TURBO),
    "broker_port": Support(By.TURBO),
    "broker_user": Support(By.TURBO),
    "broker_password": Support(By.TURBO),
    "broker_vhost": Support(By.TURBO),
    "broker_pool_limit": Support(By.CELERY),
    "broker_pool_acquire_timeout": Support(By.CELERY),
    "broker_transport_options": Support(By.CELERY),
    "broker_failover_strategy": Support(
        By.NOBODY, "the worker tries several brokers in turn; only what tasks send follows the setting"
    ),
    "worker_direct": Support(By.TURBO),
    "worker_deduplicate_successful_tasks": Support(By.CELERY),
    "worker_consumer": Support(By.NOBODY, "turbo has no replaceable consumer"),
}


def support(name: str) -> Support:
    """Return the support for the setting ``name``.

    Raises KeyError for an unknown setting.
    """
    setting = SETTINGS[name]
    found = _DIFFERENT.get(name)
    if found is not None:
        return found
    if not name.startswith(_MACHINERY):
        return Support(By.TURBO if name in _TURBOS else By.CELERY)
    if setting.status is Status.WORKS:
        return Support(By.TURBO)
    return Support(By.REFUSED if setting.status is Status.REFUSED else By.NOBODY, setting.reason)


def celerys() -> list[str]:
    """Return the names of all settings that Celery has, sorted.

    The others are turbo's own.
    """
    return sorted(name for name, setting in SETTINGS.items() if setting.old_names)
