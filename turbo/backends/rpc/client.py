"""Reads rpc results in a client: keeps the replies that arrive.

Before it: ``amqp.client.reply_consumer``, whose thread passes on every reply. After it: ``result.async_result``. Runs
in clients, and in a child whose task waits for another. Only the process that sent a task can read its result. The
reply queues have the name in ``reply_to`` of the sent tasks (one per thread, as in Celery) and Celery's properties.
Replies are kept for later reading up to a limit; then the oldest are dropped.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from turbo.amqp.client.reply_consumer import Reply, ReplyConsumer
from turbo.amqp.topology import Queue, queue_arguments
from turbo.backends.called import CalledByPrograms
from turbo.backends.reader import Meta, decode_meta, pending
from turbo.exceptions import ImproperlyConfigured, SerializationError, TimeoutError
from turbo.protocol.compression import decompress
from turbo.protocol.ids import text_id
from turbo.states import READY_STATES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from turbo.amqp.tls import TlsOptions
    from turbo.amqp.url import BrokerAddress
    from turbo.backends.reader_settings import ReaderSettings

logger = logging.getLogger(__name__)

#: Maximum number of documents that are kept until they are read; the oldest are dropped first.
_KEPT: Final = 65_536
#: Seconds in which ``get_task_meta`` lets replies arrive that are already in the queue.
_SETTLE: Final = 2.0
_LARGEST: Final = 512 * 1024 * 1024


class RpcReader(CalledByPrograms):
    """Reads results that arrive as messages.

    Thread-safe; a forked process starts empty.
    """

    #: Chords are not supported: replies go to the sender of each task, so no process could count them.
    chords = None
    #: Nor are saved groups: replies are stored nowhere.
    groups = None

    def __init__(
        self,
        addresses: Sequence[BrokerAddress],
        reply_to: Callable[[], str],
        settings: ReaderSettings,
        *,
        tls: TlsOptions | None = None,
    ) -> None:
        """``addresses`` are the brokers to try.

        ``reply_to`` returns the name of the calling thread's queue.
        """
        self._addresses = addresses
        self._tls = tls
        self._reply_to = reply_to
        self._settings = settings
        self.reset()
        _living.add(self)

    def reset(self) -> None:
        """Drop all state, as needed after a fork."""
        self._pid = os.getpid()
        self._arrived = threading.Condition()
        self._documents: OrderedDict[str, Meta] = OrderedDict()
        self._watchers: dict[str, list[Callable[[Meta], object]]] = {}
        self._queues: dict[str, Queue] = {}
        self._consumer: ReplyConsumer | None = None
        self._overflowed = False

    # -- the Protocol ----------------------------------------------------------------------------------------

    def get_task_meta(self, task_id: str, cache: bool = True) -> Meta:
        """Return the latest document that has arrived, or a PENDING one if there is none."""
        task_id = text_id(task_id)
        if (meta := self._newest(task_id)) is not None and meta["status"] in READY_STATES:
            return meta
        self._consume(_SETTLE)
        return self._newest(task_id) or pending()

    def wait_for(
        self,
        task_id: str,
        *,
        timeout: float | None = None,
        interval: float = 0.5,
        on_interval: Callable[[], object] | None = None,
        on_message: Callable[[Meta], object] | None = None,
    ) -> Meta:
        """Wait until the state is final and return the document. Raises ``TimeoutError``."""
        task_id = text_id(task_id)
        deadline = None if timeout is None else time.monotonic() + timeout
        if on_message is not None:
            with self._arrived:
                self._watchers.setdefault(task_id, []).append(on_message)
        try:
            if (meta := self._newest(task_id)) is None or meta["status"] not in READY_STATES:
                self._consume(0)
            while True:
                now = time.monotonic()
                wait = max(interval, 0.001) if on_interval is not None else None
                if deadline is not None:
                    wait = min(deadline - now, wait or deadline - now)
                with self._arrived:
                    meta = self._documents.get(task_id)
                    if meta is None or meta["status"] not in READY_STATES:
                        if deadline is not None and now >= deadline:
                            raise self._timed_out()
                        self._arrived.wait(wait)
                        meta = self._documents.get(task_id)
                if meta is not None and meta["status"] in READY_STATES:
                    return dict(meta)
                if on_interval is not None:
                    on_interval()
        finally:
            if on_message is not None:
                with self._arrived:
                    self._watchers[task_id].remove(on_message)
                    if not self._watchers[task_id]:
                        del self._watchers[task_id]

    def watch(self, task_id: str, found: Callable[[Meta], object]) -> Callable[[], None]:
        """Call ``found`` once with the final document, maybe before this returns.

        Otherwise the consumer's thread calls it.
        """
        task_id = text_id(task_id)
        told = threading.Event()

        def arrived(meta: Meta) -> None:
            if meta["status"] in READY_STATES and not told.is_set():
                told.set()
                cancel()
                found(dict(meta))

        def cancel() -> None:
            with self._arrived:
                watchers = self._watchers.get(task_id, [])
                if arrived in watchers:
                    watchers.remove(arrived)
                    if not watchers:
                        del self._watchers[task_id]

        with self._arrived:
            self._watchers.setdefault(task_id, []).append(arrived)
        if (meta := self._newest(task_id)) is not None:
            arrived(meta)
        if not told.is_set():
            self._consume(0)
        return cancel

    def forget(self, task_id: str) -> None:
        """Drop the document that has arrived; it is stored nowhere else."""
        with self._arrived:
            self._documents.pop(text_id(task_id), None)

    def store_result(
        self, task_id: str, result: object, state: str, traceback: str | None = None, request: Any = None
    ) -> None:
        """Raise ``ImproperlyConfigured``: only a task's worker sends replies."""
        raise ImproperlyConfigured("with rpc results, only the running task can set its state")

    def reply_queue(self, name: str) -> Queue:
        """Return the queue to declare before a task with this ``reply_to`` is sent.

        It is consumed from then on.
        """
        queue = self._queues.get(name)
        if queue is None:
            expires = self._settings.expires
            arguments = queue_arguments(expires=expires if expires and expires > 0 else None)
            queue = Queue(name, routing_key=name, durable=True, auto_delete=True, queue_arguments=arguments)
            self._queues[name] = queue
            if self._consumer is not None:
                self._consumer.consume(queue, 0)
        return queue

    def as_uri(self, include_password: bool = False) -> str:
        """Return ``rpc://``."""
        return "rpc://"

    def close(self) -> None:
        """Stop consuming. The broker then deletes the reply queues."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close()

    # -- inside ----------------------------------------------------------------------------------------------

    def _newest(self, task_id: str) -> Meta | None:
        with self._arrived:
            meta = self._documents.get(task_id)
            return None if meta is None else dict(meta)

    def _consume(self, timeout: float) -> None:
        """Consume from this thread's queue and every ``reply_to`` of sent tasks.

        Waits up to ``timeout`` seconds for replies that are already in the queues.
        """
        self.reply_queue(self._reply_to())
        with self._arrived:
            if self._consumer is None:
                self._consumer = ReplyConsumer(self._addresses, self._on_reply, tls=self._tls)
            consumer = self._consumer
        deadline = time.monotonic() + timeout
        for queue in list(self._queues.values()):
            consumer.consume(queue, max(0.0, deadline - time.monotonic()))

    def _timed_out(self) -> TimeoutError:
        trouble = None if self._consumer is None else self._consumer.last_error
        return TimeoutError("The operation timed out." + (f" No connection: {trouble}" if trouble else ""))

    def _on_reply(self, reply: Reply) -> None:
        """Decode and keep a reply, and call its watchers; runs in the consumer's thread."""
        try:
            meta = self._decode(reply)
        except SerializationError as error:
            logger.error("The reply for task %s cannot be decoded and is dropped: %s", reply.correlation_id, error)
            return
        task_id = reply.correlation_id or str(meta.get("task_id"))
        with self._arrived:
            watchers = list(self._watchers.get(task_id, ()))
        for watcher in watchers:
            try:
                watcher(meta)
            except Exception:
                logger.exception("A callback for the reply of task %s raised", task_id)
        with self._arrived:
            self._documents[task_id] = meta
            self._documents.move_to_end(task_id)
            if len(self._documents) > _KEPT:
                self._documents.popitem(last=False)
                if not self._overflowed:
                    self._overflowed = True
                    logger.warning("More than %d results are unread; dropping the oldest", _KEPT)
            self._arrived.notify_all()

    def _decode(self, reply: Reply) -> Meta:
        settings = self._settings
        body = reply.body
        if reply.compression is not None:
            body = decompress(body, reply.compression, _LARGEST)
        return decode_meta(
            body,
            reply.content_type or settings.content_type,
            reply.content_encoding or settings.content_encoding,
            settings.accept,
        )


_living: weakref.WeakSet[RpcReader] = weakref.WeakSet()


def _forget_after_fork() -> None:
    """Reset all readers in a forked child.

    The child has no consumer thread, and copied locks may be held for ever.
    """
    for reader in list(_living):
        reader.reset()


os.register_at_fork(after_in_child=_forget_after_fork)
