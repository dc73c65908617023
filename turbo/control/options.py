"""The options of remote control and events, read from the app's configuration.

Made in the command, before anything runs; read in the master. It must hold plain values only.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from turbo.amqp.topology import Binding, Exchange, Queue, queue_arguments

if TYPE_CHECKING:
    from turbo.app.conf.conf import Settings
    from turbo.policy.worker_options import WorkerOptions

_NOT_EXCLUSIVE: Final = (
    "control_queue_exclusive=False is not followed: RabbitMQ 4.3 and later may refuse a queue that is neither "
    "exclusive nor durable, so the worker's mailbox is exclusive; control_queue_durable=True makes it durable instead"
)


@dataclass(frozen=True, slots=True)
class ControlOptions:
    """The options of remote control and events."""

    #: The queue and exchange for requests; None: remote control is off.
    mailbox: Queue | None
    #: The accepted content types of requests, as MIME types.
    accept: frozenset[str]
    #: The serializer of replies.
    serializer: str
    event_exchange: Exchange
    event_serializer: str
    #: A setting that is not followed, with the reason; "" if all are.
    unfollowed: str
    #: Where other workers' answers arrive, besides requests; None: the worker does not mingle.
    replies: Binding | None = None
    #: Whether pool_restart is allowed.
    pool_restarts: bool = False


def control_options(conf: Settings, options: WorkerOptions) -> ControlOptions:
    """Read the settings.

    Every declaration is as Celery's, which declares the same exchanges and queues. But for a mailbox that would be
    neither durable nor exclusive: RabbitMQ 4.3 and later may forbid it, by closing the connection, so it is made
    exclusive, and ``unfollowed`` says so.
    """
    exchange = Exchange(f"{conf['control_exchange']}.pidbox", "fanout", durable=False)
    durable = bool(conf["control_queue_durable"])
    mailbox = Queue(
        f"{options.hostname}.{exchange.name}",
        exchange,
        durable=durable,
        exclusive=not durable,
        auto_delete=not durable,
        queue_arguments=queue_arguments(
            expires=conf["control_queue_expires"] or None, message_ttl=conf["control_queue_ttl"] or None
        ),
    )
    reachable = bool(conf["worker_enable_remote_control"])
    replies = Binding(Exchange(f"reply.{exchange.name}", "direct", durable=False), str(uuid.uuid4()))
    return ControlOptions(
        mailbox=mailbox if reachable else None,
        accept=options.accept_content,
        serializer=conf["task_serializer"],
        event_exchange=Exchange(conf["event_exchange"], "topic"),
        event_serializer=conf["event_serializer"],
        pool_restarts=bool(conf["worker_pool_restarts"]),
        unfollowed="" if durable or conf["control_queue_exclusive"] else _NOT_EXCLUSIVE,
        replies=replies if reachable and options.mingle else None,
    )
