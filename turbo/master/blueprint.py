"""The options and collaborators of one worker's master.

Made by ``worker.wiring`` in the command, before the loop runs; ``worker.master_process`` adds the hooks.
``master.assembly`` makes the parts from it. It must never hold anything that is open.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from turbo.amqp.tls import TlsOptions
    from turbo.amqp.topology import Queue
    from turbo.amqp.url import BrokerAddress
    from turbo.backends.store import StoreSettings
    from turbo.master.children.pool_restart import Starter
    from turbo.master.outcome.hooks import HooksMaker
    from turbo.policy.task_options import TaskOptions
    from turbo.policy.worker_options import WorkerOptions


@dataclass(frozen=True, slots=True)
class Blueprint:
    """What the command decided before the loop runs: plain values."""

    options: WorkerOptions
    read_addresses: Sequence[BrokerAddress]
    write_addresses: Sequence[BrokerAddress]
    tls: TlsOptions | None
    queues: Sequence[Queue]
    tasks: Mapping[str, TaskOptions]
    result_backend: str | None
    store_settings: StoreSettings
    stores: bool
    #: Whether result documents also name the task, its arguments and the worker (``result_extended``).
    result_extended: bool = False
    #: Task events are sent from the start.
    task_events: bool = False
    #: Makes what decides an outcome when no child can report one; None: the ack table alone decides.
    hooks: HooksMaker | None = None
    #: Starts a process that imports the app anew, for a restart of the pool; None: the pool cannot be restarted.
    import_anew: Starter | None = None
