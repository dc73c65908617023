"""Who publishes what an app sends: the worker that this process belongs to, or connections of the app's own.

Between ``app.publish.sending``, which makes messages, and ``amqp.client.publisher``. A call may name a connection
(``app.publish.connections``); inside ``with app.pipeline()`` a thread's messages go through one connection whose
confirms are read together. Runs in clients and children. It must never swallow a failure to publish.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from turbo import current
from turbo.amqp.client.pipeline import WINDOW, Pipeline
from turbo.amqp.client.publisher import ClientPublisher
from turbo.amqp.tls import tls_options
from turbo.amqp.url import parse_broker_urls
from turbo.app.publish.connections import publisher_of
from turbo.exceptions import OperationalError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from turbo.app.base import Turbo
    from turbo.app.publish.routes import Destination
    from turbo.policy.publish_retry import PublishRetry

logger = logging.getLogger("turbo.app.publish.sending")

_HOST = socket.gethostname()
#: Settings on which the connections depend.
_CONNECTION_SETTINGS = (
    "broker_write_url",
    "broker_use_ssl",
    "broker_connection_timeout",
    "broker_transport_options",
    "broker_pool_limit",
)


class _Caller(threading.local):
    """This thread as a caller, in the process ``pid``: a forked copy of a thread is another caller."""

    pid = 0
    #: The id that names its queue of rpc results.
    oid = ""
    origin = ""
    pipeline: Pipeline | None = None


class Publishing:
    """The publishers of one app. Made with it; connects when something is published."""

    def __init__(self, app: Turbo) -> None:
        self._app = app
        self._client: ClientPublisher | None = None
        self._client_version = -1
        self._client_place: tuple[str, ...] = ()
        self._lock = threading.Lock()
        self._caller = _Caller()

    def publish(
        self,
        to: Destination,
        header: bytes,
        body: bytes,
        options: Mapping[str, Any],
        retry: PublishRetry,
        wants_result: bool,
    ) -> None:
        """Hand one message to whoever publishes for this thread, or for this call."""
        get = options.get
        mandatory = bool(get("mandatory"))
        declare = to.declare
        asked = get("producer") or get("publisher") or get("connection")
        named = publisher_of(asked) if asked is not None else None
        hook = current.get_publisher()
        # The master's publisher answers nobody, so what must be known to have found a queue goes out from here. A
        # task's own next attempt goes to the master all the same: it waits there for the end of this one.
        answered = mandatory and not get("retries")
        if hook is not None and named is None and not answered:
            hook.publish(to.exchange, to.routing_key, header, body, declare=declare, mandatory=mandatory)
            return
        if wants_result and get("reply_to") in (None, "", self.thread_id()):
            # A reply that arrives before its queue exists would be lost. Calls that were settled name it themselves.
            replies = self._app.backend.reply_queue(self.thread_id())
            declare = (*declare, replies) if replies is not None else declare
        patience = get("connect_timeout")
        for_this = self.publisher(timeout=patience) if patience and named is None else None
        publisher = for_this or named or self._this_caller().pipeline or self.client()
        try:
            publisher.publish(
                to.exchange,
                to.routing_key,
                header,
                body,
                declare=declare,
                mandatory=mandatory,
                retry=retry,
                confirm_timeout=get("confirm_timeout") or get("timeout"),
            )
        finally:
            if for_this is not None:
                for_this.close()

    def client(self) -> ClientPublisher:
        """Return this app's own publisher, made when first needed and again when its settings have changed."""
        version = self._app.conf.version
        client = self._client
        if client is not None and self._client_version == version:
            return client
        with self._lock:
            conf = self._app.conf
            place = tuple(repr(conf[name]) for name in _CONNECTION_SETTINGS)
            if self._client is None or self._client_place != place:
                if self._client is not None:
                    self._client.close()
                self._client = self.publisher()
                self._client_place = place
            self._client_version = version
            return self._client

    def publisher(self, url: Any = None, timeout: float | None = None) -> ClientPublisher:
        """Return a new publisher to the broker at ``url``, by default the configured one, connecting within
        ``timeout`` seconds.
        """
        conf = self._app.conf
        transport: Mapping[str, Any] = conf["broker_transport_options"] or {}
        return ClientPublisher(
            parse_broker_urls(url or conf["broker_write_url"], tls=bool(conf["broker_use_ssl"])),
            tls=tls_options(conf["broker_use_ssl"]),
            timeout=timeout or conf["broker_connection_timeout"] or 4.0,
            confirms=bool(transport.get("confirm_publish", True)),
            idle_limit=conf["broker_pool_limit"] or 0,
        )

    @property
    def pipelined(self) -> bool:
        """Whether this thread is inside of a block of :meth:`pipeline`."""
        return self._this_caller().pipeline is not None

    @contextlib.contextmanager
    def pipeline(self, window: int = WINDOW) -> Iterator[None]:
        """What ``Turbo.pipeline`` says. One within another sees its own messages confirmed when it ends."""
        caller = self._this_caller()
        outer = caller.pipeline
        pipeline = caller.pipeline = outer or Pipeline(self.client(), window=window)
        pid = caller.pid
        try:
            yield
        finally:
            caller.pipeline = outer
            if os.getpid() == pid:
                _finish(pipeline)

    def close(self) -> None:
        """Close this app's connections."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def after_fork(self) -> None:
        """In a forked process: forget the parent's lock. Its connections forget themselves."""
        self._lock = threading.Lock()

    def thread_id(self) -> str:
        """Return the id of this thread in this process, as callers put it into ``reply_to``."""
        return self._this_caller().oid

    def origin(self) -> str:
        """Return this process's name as a sender."""
        return self._this_caller().origin

    def _this_caller(self) -> _Caller:
        caller = self._caller
        pid = os.getpid()
        if caller.pid != pid:
            caller.pid = pid
            caller.oid = str(uuid4())
            caller.origin = f"gen{pid}@{_HOST}"
            caller.pipeline = None
        return caller


def _finish(pipeline: Pipeline) -> None:
    """See a pipeline's messages confirmed. What goes wrong must not hide the error that ended the block."""
    ending = sys.exc_info()[1]
    try:
        pipeline.finish()
    except OperationalError as error:
        if ending is None:
            raise
        logger.error("not everything that was sent before the error has arrived: %s", error)
