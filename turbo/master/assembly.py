"""Puts the parts of one worker's master together.

Runs in the master, once, before anything is started. Every part gets what it needs by its constructor; where two
parts know each other, the later one is named to the earlier one by a method of it. The parts are then
``master.main``'s to start and stop.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from turbo.amqp.consume.consumer_timeouts import ConsumerTimeouts
from turbo.amqp.consume.link import BrokerLink
from turbo.amqp.outages import Outages
from turbo.amqp.publish.publisher import Publisher
from turbo.backends.registry import open_store
from turbo.master.children.dead_child import DeadChild
from turbo.master.children.pool import Pool
from turbo.master.children.recycling import Recycling
from turbo.master.children.time_limits import HardLimits
from turbo.master.delivery.dispatcher import Dispatcher
from turbo.master.delivery.eta import EtaShelf
from turbo.master.delivery.intake import Intake
from turbo.master.delivery.lease_ends import LeaseEnds
from turbo.master.delivery.leases import Leases
from turbo.master.delivery.ledger import Ledger
from turbo.master.delivery.parking import Parking
from turbo.master.delivery.redelivery_guard import RedeliveryGuard
from turbo.master.delivery.returning import Returns
from turbo.master.delivery.revoked_tasks import RevokedTasks
from turbo.master.delivery.revoking import Revoking
from turbo.master.outcome.failure_documents import FailureDocuments
from turbo.master.outcome.hooks import NoHooks
from turbo.master.outcome.lost_retries import LostRetries
from turbo.master.outcome.outcomes import Outcomes
from turbo.master.outcome.poison import Poison
from turbo.master.outcome.settlement import Settlement
from turbo.master.window import Window
from turbo.policy.revoked import Revoked

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping, Sequence

    from turbo.amqp.tls import TlsOptions
    from turbo.amqp.topology import Queue
    from turbo.amqp.url import BrokerAddress
    from turbo.backends.store import ResultStore, StoreSettings
    from turbo.master.outcome.hooks import OutcomeHooks
    from turbo.policy.task_options import TaskOptions
    from turbo.policy.worker_options import WorkerOptions
    from turbo.spawner.handle import Spawner


@dataclass(frozen=True, slots=True)
class Blueprint:
    """What the command decided before the loop: plain values."""

    options: WorkerOptions
    read_addresses: Sequence[BrokerAddress]
    write_addresses: Sequence[BrokerAddress]
    tls: TlsOptions | None
    queues: Sequence[Queue]
    tasks: Mapping[str, TaskOptions]
    result_backend: str | None
    store_settings: StoreSettings
    stores: bool
    #: Documents say more: ``result_extended``.
    result_extended: bool = False
    #: Who decides where no child could; None is the judge of turbo's own apps.
    hooks: OutcomeHooks | None = None


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts that are started, stopped or asked; the rest is held by these."""

    ledger: Ledger
    dispatcher: Dispatcher
    settlement: Settlement
    publisher: Publisher
    store: ResultStore
    intake: Intake
    shelf: EtaShelf
    redelivery_guard: RedeliveryGuard
    outcomes: Outcomes
    link: BrokerLink
    window: Window
    pool: Pool
    recycling: Recycling
    lost: DeadChild
    poison: Poison
    hooks: OutcomeHooks
    failure_documents: FailureDocuments
    revoking: Revoking
    outages: Outages
    leases: Leases
    returns: Returns
    parking: Parking


def assemble(blueprint: Blueprint, spawner: Spawner, loop: asyncio.AbstractEventLoop) -> Parts:
    """Make every part and introduce them to one another. Opens nothing."""
    options, ledger, outages = blueprint.options, Ledger(), Outages()
    publisher = Publisher(blueprint.write_addresses, outages=outages, **_network(blueprint))
    leases = _leases(blueprint, loop, ledger, publisher)
    dispatcher = _dispatcher(options, loop, leases)
    store = _store(blueprint, publisher, dispatcher)
    failure_documents = _failure_documents(blueprint)
    hooks = blueprint.hooks or NoHooks()
    returns = Returns(ledger, publisher, blueprint.queues)
    settlement = Settlement(publisher, store, ledger, dispatcher, failure_documents)
    hooks.begin(loop, failure_documents, settlement.store)
    redelivery_guard = RedeliveryGuard(dispatcher, settlement, failure_documents)
    settlement.final_steps.tell(redelivery_guard.ended, hooks)
    shelf = EtaShelf(loop)
    parking = Parking(loop, ledger, publisher, shelf, blueprint.queues, after=options.eta_park_after)
    outcomes = Outcomes(dispatcher, settlement, hooks, shelf)
    revoked = Revoked(options.revokes_max, options.revoke_expires)
    revoked_tasks = RevokedTasks(revoked, settlement, outcomes, failure_documents, hooks)
    intake = Intake(
        ledger, dispatcher, settlement, failure_documents, hooks, redelivery_guard, outcomes, leases, returns, shelf,
        revoked_tasks, parking=parking, verbose=options.loglevel <= logging.INFO,
    )  # fmt: skip
    link = _link(blueprint, intake, outages)
    ends = LeaseEnds(link, publisher)
    settlement.settle_through(link, ends)
    returns.attach(link, ends)
    parking.attach(link, settlement.finish)
    window = Window(link, ledger, dispatcher, shelf, leases.copies, options)
    leases.attach(link, ends, window.make_room)
    poison = Poison(settlement, failure_documents, max_deliveries=options.task_max_deliveries)
    retries = LostRetries(settlement, failure_documents, hooks)
    lost = DeadChild(dispatcher, outcomes, settlement, failure_documents, hooks, poison, retries, revoked_tasks)
    pool = _pool(options, spawner, loop, dispatcher, outcomes, lost)
    recycling = _recycling(options, pool, outcomes)
    HardLimits(loop, hooks, pool, outcomes.on_limits)
    revoking = Revoking(loop, revoked_tasks, ledger, dispatcher, shelf, redelivery_guard, pool, settlement)
    return Parts(
        ledger, dispatcher, settlement, publisher, store, intake, shelf, redelivery_guard, outcomes, link, window, pool,
        recycling, lost, poison, hooks, failure_documents, revoking, outages, leases, returns, parking,
    )  # fmt: skip


def _link(blueprint: Blueprint, intake: Intake, outages: Outages) -> BrokerLink:
    options = blueprint.options
    return BrokerLink(
        blueprint.read_addresses,
        blueprint.queues,
        intake,
        prefetch_count=options.concurrency * options.prefetch_multiplier,
        delay_queue_type=options.delay_queue_type,
        outages=outages,
        timeouts=_timeouts(blueprint),
        **_network(blueprint),
    )


def _dispatcher(options: WorkerOptions, loop: asyncio.AbstractEventLoop, leases: Leases) -> Dispatcher:
    return Dispatcher(
        loop,
        max_tasks_per_child=options.max_tasks_per_child,
        async_concurrency=options.async_concurrency,
        charges=leases.copies,
        max_deliveries=options.task_max_deliveries,
    )


def _failure_documents(blueprint: Blueprint) -> FailureDocuments:
    extended_by = blueprint.options.hostname if blueprint.result_extended else ""
    return FailureDocuments(blueprint.tasks, stores=blueprint.stores, extended_by=extended_by)


def _leases(blueprint: Blueprint, loop: asyncio.AbstractEventLoop, ledger: Ledger, publisher: Publisher) -> Leases:
    hostname = blueprint.options.hostname
    return Leases(loop, ledger, publisher, blueprint.queues, hostname=hostname, timeouts=_timeouts(blueprint))


def _timeouts(blueprint: Blueprint) -> ConsumerTimeouts:
    """What the hard limits of all tasks need; one task without a limit may run for ever."""
    limits = [task.time_limit or blueprint.options.time_limit for task in blueprint.tasks.values()]
    longest = max(limit or 0.0 for limit in limits) if limits and all(limits) else None
    return ConsumerTimeouts(blueprint.options.delivery_lease or 0.0, longest)


def _store(blueprint: Blueprint, publisher: Publisher, dispatcher: Dispatcher) -> ResultStore:
    return open_store(
        blueprint.result_backend,
        blueprint.store_settings,
        publisher=publisher,
        on_relief=lambda: dispatcher.resume("results"),
    )


def _network(blueprint: Blueprint) -> dict[str, Any]:
    """What both connections to the broker have in common."""
    return {
        "heartbeat": blueprint.options.broker_heartbeat,
        "tls": blueprint.tls,
        "name": blueprint.options.hostname,
        "connection_timeout": blueprint.options.broker_connection_timeout,
    }


def _pool(
    options: WorkerOptions,
    spawner: Spawner,
    loop: asyncio.AbstractEventLoop,
    dispatcher: Dispatcher,
    outcomes: Outcomes,
    dead_child: DeadChild,
) -> Pool:
    return Pool(
        loop,
        spawner,
        dispatcher,
        outcomes,
        dead_child,
        concurrency=options.concurrency,
        proc_alive_timeout=options.proc_alive_timeout,
    )


def _recycling(options: WorkerOptions, pool: Pool, outcomes: Outcomes) -> Recycling:
    return Recycling(
        pool,
        outcomes.on_ended,
        concurrency=options.concurrency,
        max_tasks=options.max_tasks_per_child,
        limit_kib=options.max_memory_per_child,
        hard_kib=options.max_memory_per_child_hard,
    )
