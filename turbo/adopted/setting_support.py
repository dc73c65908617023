"""Who carries out each of Celery's settings when its app runs under turbo: the answer that warnings and docs give.

Read in the command by ``adopted.settings`` at start-up, and by the script that writes the settings' page; so it must
not import Celery. Three kinds of code read an app's settings here: turbo's own (connections, queues, limits,
processes), Celery's own (tasks, results and sending run in it unchanged), and programs beside the worker (beat).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique
from typing import Final

from turbo.app.conf.setting import Status
from turbo.app.conf.settings import SETTINGS


@unique
class By(Enum):
    """Who does what a setting says."""

    TURBO = "turbo"
    CELERY = "Celery's own code"
    NOBODY = "without effect"
    #: Any value but a harmless one stops the worker from starting.
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Honour:
    """Who carries a setting out, and why nobody does where nobody does."""

    by: By
    reason: str = ""


#: The first words of settings that a worker's own machinery reads. All others are read by Celery's code.
_MACHINERY: Final = ("worker_", "broker_", "control_", "event_")

#: Settings of tasks that turbo's code reads, beside Celery's.
_TURBOS: Final = frozenset(
    {
        "accept_content", "task_queues", "task_default_queue", "task_default_queue_type", "task_default_exchange",
        "task_default_exchange_type", "task_default_routing_key", "task_create_missing_queues",
        "task_create_missing_queue_type", "task_create_missing_queue_exchange_type", "task_queue_max_priority",
        "task_acks_late", "task_acks_on_failure_or_timeout", "task_acks_on_failure", "task_acks_on_timeout",
        "task_reject_on_worker_lost", "task_time_limit", "task_soft_time_limit", "timezone", "enable_utc",
    }
)  # fmt: skip

#: Where the answer for an adopted app is not the one for turbo's own.
_DIFFERENT: Final[dict[str, Honour]] = {
    "broker_host": Honour(By.TURBO),
    "broker_transport": Honour(By.TURBO),
    "broker_port": Honour(By.TURBO),
    "broker_user": Honour(By.TURBO),
    "broker_password": Honour(By.TURBO),
    "broker_vhost": Honour(By.TURBO),
    "broker_pool_limit": Honour(By.CELERY),
    "broker_pool_acquire_timeout": Honour(By.CELERY),
    "broker_transport_options": Honour(By.CELERY),
    "broker_failover_strategy": Honour(
        By.NOBODY, "several brokers are consumed from in turn; what tasks send follows the setting"
    ),
    "worker_direct": Honour(By.TURBO),
    "worker_deduplicate_successful_tasks": Honour(By.CELERY),
    "worker_pool": Honour(By.NOBODY, "children are always processes"),
    "worker_consumer": Honour(By.NOBODY, "turbo is built of other parts"),
    "task_default_rate_limit": Honour(By.NOBODY, "rates are not limited yet"),
}


def honour(name: str) -> Honour:
    """Who carries out the setting ``name``. Raises KeyError for one that turbo has never heard of."""
    setting = SETTINGS[name]
    found = _DIFFERENT.get(name)
    if found is not None:
        return found
    if not name.startswith(_MACHINERY):
        return Honour(By.TURBO if name in _TURBOS else By.CELERY)
    if setting.status is Status.WORKS:
        return Honour(By.TURBO)
    return Honour(By.REFUSED if setting.status is Status.REFUSED else By.NOBODY, setting.reason)


def celerys() -> list[str]:
    """The names of all settings that Celery has, sorted; the others are turbo's own."""
    return sorted(name for name, setting in SETTINGS.items() if setting.old_names)
