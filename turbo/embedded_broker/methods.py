"""Implements the AMQP methods that a client may send on a channel.

A table maps a method's number to the layout of its arguments and its function. The connection calls `take_frame`; a
function answers through the channel, or raises AmqpFault to refuse.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from pika import spec

from turbo.embedded_broker.channels import Channel
from turbo.embedded_broker.faults import AmqpFault, precondition_failed
from turbo.embedded_broker.wire import (
    BODY,
    HEADER,
    METHOD,
    content_method,
    decode_arguments,
    deliver_arguments,
    method_index,
)

if TYPE_CHECKING:
    from turbo.embedded_broker.queues import Queue

Handler = Callable[[Channel, list[Any]], None]


def _queue(channel: Channel, name: str) -> Queue:
    """Return a queue; an empty name means the queue that the channel declared last."""
    name = name or channel.last_queue
    if not name:
        raise AmqpFault(404, f"no previously declared queue in vhost '{channel.vhost.name}'")
    return channel.vhost.queue(name, channel.wire)


# -- exchanges --------------------------------------------------------------------------------------------


def exchange_declare(channel: Channel, arguments: list[Any]) -> None:
    """exchange.declare."""
    _, name, kind, passive, durable, auto_delete, internal, nowait, table = arguments
    if passive:
        channel.vhost.exchange(name)
    else:
        channel.vhost.declare_exchange(name, kind, durable, auto_delete, internal, table)
    if not nowait:
        channel.send(spec.Exchange.DeclareOk())


def exchange_delete(channel: Channel, arguments: list[Any]) -> None:
    """exchange.delete."""
    _, name, if_unused, nowait = arguments
    channel.vhost.delete_exchange(name, if_unused)
    if not nowait:
        channel.send(spec.Exchange.DeleteOk())


def exchange_bind(channel: Channel, arguments: list[Any]) -> None:
    """exchange.bind: route messages of `source` to `destination` too."""
    _, destination, source, key, nowait, table = arguments
    channel.vhost.bind(source, channel.vhost.exchange(destination), key, table)
    if not nowait:
        channel.send(spec.Exchange.BindOk())


def exchange_unbind(channel: Channel, arguments: list[Any]) -> None:
    """exchange.unbind."""
    _, destination, source, key, nowait, table = arguments
    channel.vhost.unbind(source, channel.vhost.exchange(destination), key, table)
    if not nowait:
        channel.send(spec.Exchange.UnbindOk())


# -- queues -----------------------------------------------------------------------------------------------


def queue_declare(channel: Channel, arguments: list[Any]) -> None:
    """queue.declare."""
    _, name, passive, durable, exclusive, auto_delete, nowait, table = arguments
    vhost = channel.vhost
    if passive:
        queue = _queue(channel, name)
        queue.touch()
    else:
        queue = vhost.declare_queue(name, durable, exclusive, auto_delete, table, channel.wire)
    channel.last_queue = queue.name
    if not nowait:
        channel.send(spec.Queue.DeclareOk(queue.name, queue.ready, len(queue.consumers)))


def queue_bind(channel: Channel, arguments: list[Any]) -> None:
    """queue.bind."""
    _, name, exchange, key, nowait, table = arguments
    queue = _queue(channel, name)
    # without a queue name, an empty key also means the name of the last declared queue
    channel.vhost.bind(exchange, queue, key or ("" if name else queue.name), table)
    if not nowait:
        channel.send(spec.Queue.BindOk())


def queue_unbind(channel: Channel, arguments: list[Any]) -> None:
    """queue.unbind."""
    _, name, exchange, key, table = arguments
    channel.vhost.unbind(exchange, _queue(channel, name), key, table)
    channel.send(spec.Queue.UnbindOk())


def queue_purge(channel: Channel, arguments: list[Any]) -> None:
    """queue.purge."""
    _, name, nowait = arguments
    count = _queue(channel, name).purge()
    if not nowait:
        channel.send(spec.Queue.PurgeOk(count))


def queue_delete(channel: Channel, arguments: list[Any]) -> None:
    """queue.delete; not an error if the queue does not exist."""
    _, name, if_unused, if_empty, nowait = arguments
    name = name or channel.last_queue
    count = 0
    if name in channel.vhost.queues:
        queue = channel.vhost.queue(name, channel.wire)
        if if_unused and queue.consumers:
            raise precondition_failed(f"queue '{name}' in vhost '{channel.vhost.name}' in use")
        if if_empty and queue.ready:
            raise precondition_failed(f"queue '{name}' in vhost '{channel.vhost.name}' is not empty")
        count = channel.vhost.delete_queue(queue)
    if not nowait:
        channel.send(spec.Queue.DeleteOk(count))


# -- messages ---------------------------------------------------------------------------------------------


def basic_qos(channel: Channel, arguments: list[Any]) -> None:
    """basic.qos: the window of later consumers, or with `global` of the whole channel."""
    size, count, whole_channel = arguments
    if size:
        raise AmqpFault(540, f"prefetch_size!=0 ({size})")
    if whole_channel:
        channel.prefetch_all = count
        for consumer in channel.consumers.values():
            consumer.queue.dispatch()
    else:
        channel.prefetch_each = count
    channel.send(spec.Basic.QosOk())


def basic_consume(channel: Channel, arguments: list[Any]) -> None:
    """basic.consume."""
    _, name, tag, _no_local, no_ack, exclusive, nowait, table = arguments
    queue = _queue(channel, name)
    tag = tag or f"amq.ctag-{uuid4().hex[:22]}"
    priority = table.get("x-priority", 0)
    if isinstance(priority, bool) or not isinstance(priority, int):
        raise precondition_failed("invalid arg 'x-priority': an integer is needed")
    consumer = channel.consume(queue, tag, no_ack=no_ack, exclusive=exclusive, priority=priority)
    if not nowait:
        channel.send(spec.Basic.ConsumeOk(tag))
    queue.add_consumer(consumer)


def basic_cancel(channel: Channel, arguments: list[Any]) -> None:
    """basic.cancel."""
    tag, nowait = arguments
    channel.cancel(tag)
    if not nowait:
        channel.send(spec.Basic.CancelOk(tag))


def basic_publish(channel: Channel, arguments: list[Any]) -> None:
    """basic.publish: the content follows in further frames."""
    _, exchange, key, mandatory, immediate = arguments
    if immediate:
        raise AmqpFault(540, "immediate=true")
    channel.begin_publish(exchange, key, mandatory)


def basic_get(channel: Channel, arguments: list[Any]) -> None:
    """basic.get."""
    _, name, no_ack = arguments
    queue = _queue(channel, name)
    queue.touch()
    entry = queue.pop()
    if entry is None:
        channel.send(spec.Basic.GetEmpty())
        return
    tag = channel.take_tag(entry, queue, None, no_ack=no_ack)
    fields = deliver_arguments(b"", tag, entry.redelivered, entry.message.routing)[4:]
    method = content_method(spec.Basic.GetOk.INDEX, (fields, queue.ready.to_bytes(4, "big")))
    channel.write_content(method, entry, queue)


def basic_ack(channel: Channel, arguments: list[Any]) -> None:
    """basic.ack."""
    tag, multiple = arguments
    channel.ack(tag, multiple)


def basic_nack(channel: Channel, arguments: list[Any]) -> None:
    """basic.nack."""
    tag, multiple, requeue = arguments
    channel.reject(tag, multiple, requeue)


def basic_reject(channel: Channel, arguments: list[Any]) -> None:
    """basic.reject."""
    tag, requeue = arguments
    channel.reject(tag, False, requeue)


def basic_recover(channel: Channel, arguments: list[Any]) -> None:
    """basic.recover."""
    _recover(channel, arguments)
    channel.send(spec.Basic.RecoverOk())


def basic_recover_async(channel: Channel, arguments: list[Any]) -> None:
    """basic.recover-async: basic.recover without an answer."""
    _recover(channel, arguments)


def _recover(channel: Channel, arguments: list[Any]) -> None:
    (requeue,) = arguments
    if not requeue:
        raise AmqpFault(540, "requeue=false")
    channel.recover()


# -- the channel itself -----------------------------------------------------------------------------------


def confirm_select(channel: Channel, arguments: list[Any]) -> None:
    """confirm.select."""
    (nowait,) = arguments
    channel.confirms = True
    if not nowait:
        channel.send(spec.Confirm.SelectOk())


def channel_flow(channel: Channel, arguments: list[Any]) -> None:
    """channel.flow; only active=true is supported."""
    (active,) = arguments
    if not active:
        raise AmqpFault(540, "active=false")
    channel.send(spec.Channel.FlowOk(True))


def transactions(channel: Channel, arguments: list[Any]) -> None:
    """tx.select, tx.commit, tx.rollback: not supported."""
    raise AmqpFault(540, "the embedded broker has no transactions")


METHODS: dict[int, tuple[str, Handler]] = {
    spec.Exchange.Declare.INDEX: ("Hssbbbbbt", exchange_declare),
    spec.Exchange.Delete.INDEX: ("Hsbb", exchange_delete),
    spec.Exchange.Bind.INDEX: ("Hsssbt", exchange_bind),
    spec.Exchange.Unbind.INDEX: ("Hsssbt", exchange_unbind),
    spec.Queue.Declare.INDEX: ("Hsbbbbbt", queue_declare),
    spec.Queue.Bind.INDEX: ("Hsssbt", queue_bind),
    spec.Queue.Unbind.INDEX: ("Hssst", queue_unbind),
    spec.Queue.Purge.INDEX: ("Hsb", queue_purge),
    spec.Queue.Delete.INDEX: ("Hsbbb", queue_delete),
    spec.Basic.Qos.INDEX: ("IHb", basic_qos),
    spec.Basic.Consume.INDEX: ("Hssbbbbt", basic_consume),
    spec.Basic.Cancel.INDEX: ("sb", basic_cancel),
    spec.Basic.Publish.INDEX: ("Hssbb", basic_publish),
    spec.Basic.Get.INDEX: ("Hsb", basic_get),
    spec.Basic.Ack.INDEX: ("Qb", basic_ack),
    spec.Basic.Nack.INDEX: ("Qbb", basic_nack),
    spec.Basic.Reject.INDEX: ("Qb", basic_reject),
    spec.Basic.Recover.INDEX: ("b", basic_recover),
    spec.Basic.RecoverAsync.INDEX: ("b", basic_recover_async),
    spec.Confirm.Select.INDEX: ("b", confirm_select),
    spec.Channel.Flow.INDEX: ("b", channel_flow),
    spec.Tx.Select.INDEX: ("", transactions),
    spec.Tx.Commit.INDEX: ("", transactions),
    spec.Tx.Rollback.INDEX: ("", transactions),
}


def take_frame(channel: Channel, kind: int, payload: bytes) -> None:
    """Execute a method, or take a part of a publish's content."""
    if kind == HEADER:
        channel.take_header(payload)
        return
    if kind == BODY:
        channel.take_body(payload)
        return
    if kind != METHOD:
        raise AmqpFault(501, f"unknown frame type {kind}")
    if channel.expects_content:
        raise AmqpFault(505, "unexpected method: the content of a publish must follow")
    index = method_index(payload)
    known = METHODS.get(index)
    if known is None:
        raise AmqpFault(503 if index in spec.methods else 540, f"method {index:#010x}")
    layout, handler = known
    handler(channel, decode_arguments(layout, payload))
