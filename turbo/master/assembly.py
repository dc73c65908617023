"""Puts the parts of one worker's master together.

Runs in the master, once, before anything is started. Every part gets what it needs by its constructor. Where two parts
call each other, the earlier one has ``Observers``, and the later one adds itself to them in its constructor. The
consume connection, which the intake settles through, gets the intake when it is started. The parts are made group
by group; ``master.main`` starts and stops them. It must never open or start anything.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from turbo.amqp.consume.consumer_timeouts import ConsumerTimeouts
from turbo.amqp.consume.link import BrokerLink
from turbo.amqp.outages import Outages
from turbo.amqp.publish.publisher import Publisher
from turbo.backends.open_store import open_store
from turbo.master.children.autoscaler import Autoscaler
from turbo.master.children.dead_child import DeadChild
from turbo.master.children.handover import Handover
from turbo.master.children.pool import Pool
from turbo.master.children.pool_restart import PoolRestart
from turbo.master.children.pool_size import PoolSize
from turbo.master.children.recycling import Recycling
from turbo.master.children.resizing import Resizing
from turbo.master.children.spawners import Spawners
from turbo.master.children.stuck_threads import StuckThreads
from turbo.master.children.time_limits import HardLimits
from turbo.master.delivery.batches import Batches
from turbo.master.delivery.dispatcher import Dispatcher
from turbo.master.delivery.eta import EtaShelf
from turbo.master.delivery.intake import Intake
from turbo.master.delivery.lease_copies import LeaseCopies
from turbo.master.delivery.lease_ends import LeaseEnds
from turbo.master.delivery.leases import Leases
from turbo.master.delivery.ledger import Ledger
from turbo.master.delivery.parking import Parking
from turbo.master.delivery.paused_queues import PausedQueues
from turbo.master.delivery.queue_changes import QueueChanges
from turbo.master.delivery.rate_limits import RateLimits
from turbo.master.delivery.redelivery_guard import RedeliveryGuard
from turbo.master.delivery.returning import Returns
from turbo.master.delivery.revoked_tasks import RevokedTasks
from turbo.master.delivery.revoking import Revoking
from turbo.master.delivery.surplus import Surplus
from turbo.master.delivery.task_changes import TaskChanges
from turbo.master.delivery.time_limit_changes import TimeLimitChanges
from turbo.master.outcome.failure_documents import FailureDocuments
from turbo.master.outcome.hooks import NoHooks
from turbo.master.outcome.lost_retries import LostRetries
from turbo.master.outcome.outcomes import Outcomes
from turbo.master.outcome.poison import Poison
from turbo.master.outcome.settlement import Settlement
from turbo.master.outcome.start_looks import StartLooks
from turbo.master.outcome.storing import DocumentStore
from turbo.master.outcome.task_events import TaskEvents
from turbo.master.window import Window
from turbo.policy.autoscaling import Autoscaling
from turbo.policy.revoked import Revoked

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

    from turbo.amqp.topology import Queue
    from turbo.backends.store import ResultStore
    from turbo.master.blueprint import Blueprint
    from turbo.master.broker_patience import BrokerPatience
    from turbo.master.children.pool import WorkerEnds
    from turbo.master.outcome.hooks import OutcomeHooks
    from turbo.policy.worker_options import WorkerOptions
    from turbo.spawner.handle import Spawner


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts that ``master.main`` and others use; they hold the rest."""

    ledger: Ledger
    dispatcher: Dispatcher
    settlement: Settlement
    publisher: Publisher
    store: ResultStore
    intake: Intake
    shelf: EtaShelf
    rate_limits: RateLimits
    batches: Batches
    time_limits: TimeLimitChanges
    redelivery_guard: RedeliveryGuard
    outcomes: Outcomes
    link: BrokerLink
    window: Window
    pool: Pool
    recycling: Recycling
    resizing: Resizing
    spawners: Spawners
    #: None if no other process can import the app.
    pool_restart: PoolRestart | None
    #: None unless the worker is autoscaled.
    autoscaler: Autoscaler | None
    dead_child: DeadChild
    poison: Poison
    hooks: OutcomeHooks
    failure_documents: FailureDocuments
    revoking: Revoking
    outages: Outages
    leases: Leases
    returns: Returns
    parking: Parking
    queue_changes: QueueChanges

    def loops(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """Return, by name, what runs until the worker is asked to stop."""
        loops: dict[str, Callable[[], Awaitable[None]]] = {
            "prefetch window": self.window.run,
            "recycling": self.recycling.run,
        }
        if self.autoscaler is not None:
            loops["autoscaler"] = self.autoscaler.run
        return loops


@dataclass(frozen=True, slots=True)
class _Broker:
    """Both connections, and what settles through them."""

    outages: Outages
    publisher: Publisher
    link: BrokerLink
    lease_ends: LeaseEnds
    #: Every queue whose messages may be here, by name. ``delivery.queue_changes`` adds to it.
    queues: dict[str, Queue]


@dataclass(frozen=True, slots=True)
class _Waiting:
    """The children, and where deliveries wait for them or for their time."""

    ledger: Ledger
    time_limits: TimeLimitChanges
    paused_queues: PausedQueues
    copies: LeaseCopies
    dispatcher: Dispatcher
    shelf: EtaShelf
    size: PoolSize


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What decides about the end of a delivery."""

    store: ResultStore
    failure_documents: FailureDocuments
    hooks: OutcomeHooks
    settlement: Settlement
    outcomes: Outcomes
    poison: Poison
    revoked_tasks: RevokedTasks


@dataclass(frozen=True, slots=True)
class _Delivery:
    """What decides about a delivery on receipt, and while it waits."""

    rate_limits: RateLimits
    batches: Batches
    redelivery_guard: RedeliveryGuard
    returns: Returns
    parking: Parking
    intake: Intake
    window: Window
    leases: Leases
    queue_changes: QueueChanges


@dataclass(frozen=True, slots=True)
class _Children:
    """The children, and what watches them."""

    dead_child: DeadChild
    pool: Pool
    recycling: Recycling
    resizing: Resizing
    spawners: Spawners
    pool_restart: PoolRestart | None
    autoscaler: Autoscaler | None
    revoking: Revoking


def assemble(
    blueprint: Blueprint,
    spawner: Spawner,
    loop: asyncio.AbstractEventLoop,
    patience: BrokerPatience,
    ends: WorkerEnds,
) -> Parts:
    """Make every part, each after those that it needs. Opens nothing.

    ``ends`` ends the worker when no child can be made.
    """
    broker = _broker(blueprint, patience)
    waiting = _waiting(blueprint, loop, broker)
    outcome = _outcome(blueprint, loop, broker, waiting)
    delivery = _delivery(blueprint, loop, broker, waiting, outcome)
    children = _children(blueprint, spawner, loop, ends, waiting, outcome, delivery)
    return Parts(
        ledger=waiting.ledger,
        dispatcher=waiting.dispatcher,
        settlement=outcome.settlement,
        publisher=broker.publisher,
        store=outcome.store,
        intake=delivery.intake,
        shelf=waiting.shelf,
        rate_limits=delivery.rate_limits,
        batches=delivery.batches,
        time_limits=waiting.time_limits,
        redelivery_guard=delivery.redelivery_guard,
        outcomes=outcome.outcomes,
        link=broker.link,
        window=delivery.window,
        pool=children.pool,
        recycling=children.recycling,
        resizing=children.resizing,
        spawners=children.spawners,
        pool_restart=children.pool_restart,
        autoscaler=children.autoscaler,
        dead_child=children.dead_child,
        poison=outcome.poison,
        hooks=outcome.hooks,
        failure_documents=outcome.failure_documents,
        revoking=children.revoking,
        outages=broker.outages,
        leases=delivery.leases,
        returns=delivery.returns,
        parking=delivery.parking,
        queue_changes=delivery.queue_changes,
    )


def _broker(blueprint: Blueprint, patience: BrokerPatience) -> _Broker:
    options, network, outages = blueprint.options, _network(blueprint), Outages()
    publisher = Publisher(blueprint.write_addresses, outages=outages, on_failure=patience.attempt_failed, **network)
    link = BrokerLink(
        blueprint.read_addresses,
        blueprint.queues,
        prefetch_count=options.places * options.prefetch_multiplier,
        delay_queue_type=options.delay_queue_type,
        outages=outages,
        timeouts=_timeouts(blueprint),
        on_failure=patience.attempt_failed,
        on_lost=patience.consuming_lost,
        **network,
    )
    queues = {queue.name: queue for queue in blueprint.queues}
    return _Broker(outages, publisher, link, LeaseEnds(link, publisher), queues)


def _waiting(blueprint: Blueprint, loop: asyncio.AbstractEventLoop, broker: _Broker) -> _Waiting:
    options, ledger, time_limits = blueprint.options, Ledger(), TimeLimitChanges(blueprint.tasks)
    paused = PausedQueues()
    copies = LeaseCopies(
        loop, ledger, broker.publisher, broker.queues, broker.link, broker.lease_ends, paused,
        hostname=options.hostname, enabled=_timeouts(blueprint).configured > 0,
    )  # fmt: skip
    dispatcher = Dispatcher(
        loop,
        max_tasks_per_child=options.max_tasks_per_child,
        async_concurrency=options.async_concurrency,
        threads=options.threads,
        charges=copies,
        max_deliveries=options.task_max_deliveries,
        time_limits=time_limits,
        processors=len(os.sched_getaffinity(0)),
    )
    size = PoolSize(options.concurrency, options.autoscale_least)
    return _Waiting(ledger, time_limits, paused, copies, dispatcher, EtaShelf(loop), size)


def _outcome(blueprint: Blueprint, loop: asyncio.AbstractEventLoop, broker: _Broker, waiting: _Waiting) -> _Outcome:
    options, dispatcher = blueprint.options, waiting.dispatcher
    store = _store(blueprint, broker.publisher, dispatcher)
    documents = _failure_documents(blueprint, waiting)
    storing = DocumentStore(store, dispatcher)
    hooks = NoHooks(documents) if blueprint.hooks is None else blueprint.hooks(loop, documents, storing)
    events = TaskEvents(blueprint.tasks, documents, on=blueprint.task_events)
    settlement = Settlement(
        broker.publisher, storing, waiting.ledger, dispatcher, hooks, broker.link, broker.lease_ends, events
    )
    looks = StartLooks(loop, dispatcher)
    outcomes = Outcomes(dispatcher, settlement, hooks, waiting.shelf, looks)
    poison = Poison(settlement, documents, max_deliveries=options.task_max_deliveries)
    revoked = Revoked(options.revokes_max, options.revoke_expires)
    revoked_tasks = RevokedTasks(revoked, settlement, outcomes, documents, hooks)
    return _Outcome(store, documents, hooks, settlement, outcomes, poison, revoked_tasks)


def _delivery(
    blueprint: Blueprint, loop: asyncio.AbstractEventLoop, broker: _Broker, waiting: _Waiting, outcome: _Outcome
) -> _Delivery:
    options, queues, link, publisher = blueprint.options, broker.queues, broker.link, broker.publisher
    ledger, dispatcher, shelf, copies = waiting.ledger, waiting.dispatcher, waiting.shelf, waiting.copies
    paused = waiting.paused_queues
    settlement, documents = outcome.settlement, outcome.failure_documents
    batches = Batches(loop, ledger, dispatcher, blueprint.tasks)
    receiver = batches if batches.any else dispatcher
    rate_limits = RateLimits(loop, receiver, documents, blueprint.tasks, disabled=options.disable_rate_limits)
    redelivery_guard = RedeliveryGuard(dispatcher, rate_limits, settlement, documents)
    returns = Returns(ledger, publisher, queues, link, broker.lease_ends)
    parking = Parking(loop, ledger, publisher, shelf, queues, link, settlement, after=options.eta_park_after)
    surplus = Surplus(dispatcher, ledger, returns, link)
    window = Window(
        link, ledger, dispatcher, shelf, rate_limits, batches, copies, paused, waiting.size, options, surplus
    )  # fmt: skip
    leases = Leases(loop, ledger, queues, link, copies, window.make_room, timeouts=_timeouts(blueprint))
    intake = Intake(
        ledger, dispatcher, settlement, documents, outcome.hooks, redelivery_guard,
        outcome.outcomes, leases, returns, shelf, rate_limits, batches, outcome.revoked_tasks, paused,
        parking=parking, verbose=options.loglevel <= logging.INFO,
    )  # fmt: skip
    changes = QueueChanges(link, queues, intake.places, intake.take_up)
    return _Delivery(rate_limits, batches, redelivery_guard, returns, parking, intake, window, leases, changes)


def _children(
    blueprint: Blueprint,
    spawner: Spawner,
    loop: asyncio.AbstractEventLoop,
    ends: WorkerEnds,
    waiting: _Waiting,
    outcome: _Outcome,
    delivery: _Delivery,
) -> _Children:
    options, dispatcher, paused = blueprint.options, waiting.dispatcher, waiting.paused_queues
    settlement, documents, hooks = outcome.settlement, outcome.failure_documents, outcome.hooks
    outcomes, spawners, size = outcome.outcomes, Spawners(loop, spawner), waiting.size
    retries, revoked_tasks = LostRetries(settlement, documents, hooks), outcome.revoked_tasks
    dead_child = DeadChild(
        dispatcher, outcomes, settlement, documents, hooks, outcome.poison, retries, revoked_tasks, paused
    )
    pool = Pool(
        loop, spawners, ends, dispatcher, outcomes, dead_child, size, proc_alive_timeout=options.proc_alive_timeout
    )
    recycling = Recycling(
        pool, outcomes.on_ended, size, max_tasks=options.max_tasks_per_child,
        limit_kib=options.max_memory_per_child, hard_kib=options.max_memory_per_child_hard,
    )  # fmt: skip
    stuck_threads = StuckThreads(pool, outcomes, dead_child) if options.threads else None
    HardLimits(loop, hooks, stuck_threads or pool, outcomes.on_limits)
    revoking = Revoking(
        loop, revoked_tasks, waiting.ledger, dispatcher, waiting.shelf, delivery.rate_limits, delivery.batches,
        delivery.redelivery_guard, paused, pool, settlement, stuck_threads,
    )  # fmt: skip
    resizing = Resizing(pool, size)
    autoscaler = _autoscaler(options, resizing, pool, dispatcher)
    changes = TaskChanges(blueprint.tasks, waiting.time_limits, delivery.rate_limits, settlement.events)
    handover, restart = Handover(loop, pool, spawners, size), None
    if blueprint.import_anew is not None:
        restart = PoolRestart(loop, pool, spawners, handover, size, blueprint.import_anew, changes)
    return _Children(dead_child, pool, recycling, resizing, spawners, restart, autoscaler, revoking)


def _autoscaler(options: WorkerOptions, resizing: Resizing, pool: Pool, dispatcher: Dispatcher) -> Autoscaler | None:
    if options.autoscale_least is None:
        return None
    policy = Autoscaling(options.concurrency, options.autoscale_least, options.autoscale_keepalive)
    return Autoscaler(policy, resizing, pool, dispatcher)


def _failure_documents(blueprint: Blueprint, waiting: _Waiting) -> FailureDocuments:
    extended_by = blueprint.options.hostname if blueprint.result_extended else ""
    return FailureDocuments(waiting.time_limits.tasks, stores=blueprint.stores, extended_by=extended_by)


def _timeouts(blueprint: Blueprint) -> ConsumerTimeouts:
    """Return consumer timeouts for the tasks' limits; none if one may run on."""
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
