"""Chooses the publisher of a message: the master or the app's connections.

Called by ``app.publish.sending``, which makes messages; uses ``amqp.client.publisher``. A call may name a connection
(``app.publish.connections``). Inside ``with app.pipeline()``, a thread's messages go through one connection whose
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

    from turbo.app.interfaces import AppLike
    from turbo.app.publish.routes import Destination
    from turbo.policy.publish_retry import PublishRetry

logger = logging.getLogger("turbo.app.publish.sending")

_HOST = socket.gethostname()
#: Settings that affect the connections.
_CONNECTION_SETTINGS = (
    "broker_write_url",
    "broker_use_ssl",
    "broker_connection_timeout",
    "broker_transport_options",
    "broker_pool_limit",
)


class _Caller(threading.local):
    """The calling thread's ids and pipeline.

    They are renewed after a fork, when ``pid`` no longer matches.
    """

    pid = 0
    #: The name of the thread's queue of rpc results.
    oid = ""
    origin = ""
    pipeline: Pipeline | None = None


class Publishing:
    """The publishers of one app.

    Made with the app; connects at the first publication.
    """

    def __init__(self, app: AppLike) -> None:
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
        """Publish one message.

        Uses the call's connection, the worker, the thread's pipeline or the app's client. Raises OperationalError when
        it could not be published.
        """
        get = options.get
        mandatory = bool(get("mandatory"))
        declare = to.declare
        asked = get("producer") or get("publisher") or get("connection")
        named = publisher_of(asked) if asked is not None else None
        hook = current.get_publisher()
        # The master's publisher does not report back to a child, so a mandatory message is published from here. A
        # task's own retry goes to the master nevertheless, which holds it until this attempt has ended.
        answered = mandatory and not get("retries")
        if hook is not None and named is None and not answered:
            hook.publish(to.exchange, to.routing_key, header, body, declare=declare, mandatory=mandatory)
            return
        if wants_result and get("reply_to") in (None, "", self.thread_id()):
            # Declare the reply queue: a reply that arrives before its queue exists is lost. Frozen signatures contain
            # reply_to.
            replies = self._app.backend.reply_queue(self.thread_id())
            declare = (*declare, replies) if replies is not None else declare
        patience = get("connect_timeout")
        for_this = self.publisher(timeout=patience) if patience and named is None else None
        publisher = for_this or named or self.of_thread()
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

    def of_thread(self) -> ClientPublisher | Pipeline:
        """Return this thread's pipeline, or else the app's own publisher."""
        return self._this_caller().pipeline or self.client()

    def client(self) -> ClientPublisher:
        """Return the app's own publisher.

        It is made at first use, and again when its settings have changed.
        """
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
        """Return a new publisher to the broker at ``url`` (default: ``broker_write_url``).

        ``timeout`` is the limit for connecting in seconds (default: ``broker_connection_timeout``).
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
        """Whether this thread is inside a block of :meth:`pipeline`."""
        return self._this_caller().pipeline is not None

    @contextlib.contextmanager
    def pipeline(self, window: int = WINDOW) -> Iterator[None]:
        """Implement ``Turbo.pipeline``.

        Each nested block waits for the confirms of its messages when it ends.
        """
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
        """Replace the parent's lock in a forked process.

        The connections detect the fork themselves.
        """
        self._lock = threading.Lock()

    def thread_id(self) -> str:
        """Return the id of this thread in this process, the ``reply_to`` of its calls."""
        return self._this_caller().oid

    def origin(self) -> str:
        """Return the sender's name in messages, ``gen<pid>@<host>``."""
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
    """Wait for the confirms of a pipeline.

    Its error is logged, not raised, if another error ended the block.
    """
    ending = sys.exc_info()[1]
    try:
        pipeline.finish()
    except OperationalError as error:
        if ending is None:
            raise
        logger.error("Some messages that were sent before the error could not be confirmed: %s", error)
