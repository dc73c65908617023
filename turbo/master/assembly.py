"""Puts the parts of one worker's master together.

Runs in the master, once, before anything is started. Every part gets what it needs by its constructor; where two
parts know each other, the later one is named to the earlier one by a method of it. The parts are then
``master.main``'s to start and stop.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from turbo.amqp.consumer_timeouts import ConsumerTimeouts
from turbo.amqp.link import BrokerLink
from turbo.amqp.outages import Outages
from turbo.amqp.outbox import Outbox
from turbo.backends.registry import open_store
from turbo.master.dispatcher import Dispatcher
from turbo.master.eta import EtaShelf
from turbo.master.inflight import Ledger
from turbo.master.intake import Intake
from turbo.master.judge import NativeJudge
from turbo.master.lease_ends import LeaseEnds
from turbo.master.leases import Leases
from turbo.master.lost_child import LostChild
from turbo.master.lost_retries import LostRetries
from turbo.master.outcomes import Outcomes
from turbo.master.parking import Parking
from turbo.master.poison import Poison
from turbo.master.pool import Pool
from turbo.master.recycling import Recycling
from turbo.master.returning import Returns
from turbo.master.revoking import Revoking
from turbo.master.settlement import Settlement
from turbo.master.time_limits import HardLimits
from turbo.master.twins import Twins
from turbo.master.verdicts import Verdicts
from turbo.master.window import Window
from turbo.policy.revoked import Revoked

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping, Sequence

    from turbo.amqp.tls import TlsOptions
    from turbo.amqp.topology import Queue
    from turbo.amqp.url import BrokerAddress
    from turbo.backends.store import ResultStore, StoreSettings
    from turbo.master.judge import Judge
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
    judge: Judge | None = None


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts that are started, stopped or asked; the rest is held by these."""

    ledger: Ledger
    dispatcher: Dispatcher
    settlement: Settlement
    outbox: Outbox
    store: ResultStore
    intake: Intake
    shelf: EtaShelf
    twins: Twins
    outcomes: Outcomes
    link: BrokerLink
    window: Window
    pool: Pool
    recycling: Recycling
    lost: LostChild
    poison: Poison
    judge: Judge
    verdicts: Verdicts
    revoking: Revoking
    outages: Outages
    leases: Leases
    returns: Returns
    parking: Parking


def assemble(blueprint: Blueprint, spawner: Spawner, loop: asyncio.AbstractEventLoop) -> Parts:
    """Make every part and introduce them to one another. Opens nothing."""
    options = blueprint.options
    ledger = Ledger()
    outages = Outages()
    outbox = Outbox(blueprint.write_addresses, outages=outages, **_network(blueprint))
    leases = _leases(blueprint, loop, ledger, outbox)
    dispatcher = _dispatcher(options, loop, leases)
    store = _store(blueprint, outbox, dispatcher)
    verdicts = _verdicts(blueprint)
    judge = blueprint.judge or NativeJudge()
    returns = Returns(ledger, outbox, blueprint.queues)
    settlement = Settlement(outbox, store, ledger, dispatcher, verdicts)
    judge.begin(loop, verdicts, settlement.store)
    limits = HardLimits(loop, judge)
    twins = Twins(dispatcher, settlement, verdicts)
    settlement.final_steps.tell(twins.ended, judge)
    outcomes = Outcomes(dispatcher, settlement, limits, judge)
    intake = Intake(
        ledger, dispatcher, settlement, verdicts, judge, twins, outcomes, leases, returns,
        verbose=options.loglevel <= logging.INFO,
    )  # fmt: skip
    shelf = EtaShelf(loop, intake.due)
    parking = Parking(loop, ledger, outbox, shelf, blueprint.queues, after=options.eta_park_after)
    intake.shelve_on(shelf, parking)
    outcomes.shelve_on(shelf)
    link = _link(blueprint, intake, outages)
    ends = LeaseEnds(link, outbox)
    settlement.settle_through(link, ends)
    returns.attach(link, ends)
    parking.attach(link, settlement.finish)
    window = Window(link, ledger, dispatcher, shelf, leases.copies, options)
    leases.attach(link, ends, window.make_room)
    pool = _pool(options, spawner, loop, dispatcher, outcomes)
    recycling = _recycling(options, pool)
    outcomes.oversee(recycling)
    poison = Poison(settlement, verdicts, max_deliveries=options.task_max_deliveries)
    retries = LostRetries(settlement, verdicts, judge)
    lost = LostChild(dispatcher, outcomes, settlement, verdicts, judge, poison, retries)
    pool.mourn(lost)
    limits.obey(pool)
    revoked = Revoked(options.revokes_max, options.revoke_expires)
    revoking = Revoking(loop, revoked, ledger, dispatcher, shelf, twins, pool, settlement, outcomes, verdicts, judge)
    intake.refuse_through(revoking)
    lost.refuses = revoking.refuses
    return Parts(
        ledger, dispatcher, settlement, outbox, store, intake, shelf, twins, outcomes, link, window, pool, recycling,
        lost, poison, judge, verdicts, revoking, outages, leases, returns, parking,
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


def _verdicts(blueprint: Blueprint) -> Verdicts:
    extended_by = blueprint.options.hostname if blueprint.result_extended else ""
    return Verdicts(blueprint.tasks, stores=blueprint.stores, extended_by=extended_by)


def _leases(blueprint: Blueprint, loop: asyncio.AbstractEventLoop, ledger: Ledger, outbox: Outbox) -> Leases:
    hostname = blueprint.options.hostname
    return Leases(loop, ledger, outbox, blueprint.queues, hostname=hostname, timeouts=_timeouts(blueprint))


def _timeouts(blueprint: Blueprint) -> ConsumerTimeouts:
    """What the hard limits of all tasks need; one task without a limit may run for ever."""
    limits = [task.time_limit or blueprint.options.time_limit for task in blueprint.tasks.values()]
    longest = max(limit or 0.0 for limit in limits) if limits and all(limits) else None
    return ConsumerTimeouts(blueprint.options.delivery_lease or 0.0, longest)


def _store(blueprint: Blueprint, outbox: Outbox, dispatcher: Dispatcher) -> ResultStore:
    return open_store(
        blueprint.result_backend,
        blueprint.store_settings,
        outbox=outbox,
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
) -> Pool:
    return Pool(
        loop,
        spawner,
        dispatcher,
        outcomes,
        concurrency=options.concurrency,
        proc_alive_timeout=options.proc_alive_timeout,
    )


def _recycling(options: WorkerOptions, pool: Pool) -> Recycling:
    recycling = Recycling(
        pool,
        concurrency=options.concurrency,
        max_tasks=options.max_tasks_per_child,
        limit_kib=options.max_memory_per_child,
        hard_kib=options.max_memory_per_child_hard,
    )
    pool.on_serving = recycling.child_serving
    pool.on_gone = recycling.child_gone
    return recycling
