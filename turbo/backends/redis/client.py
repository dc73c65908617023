"""Reads results from Redis in a client, by GET and by subscription.

Before it: documents stored and published by a worker (see ``redis.wire``). After it: ``result.async_result``. Runs in
clients, and in a child whose task waits for another. Waiting first subscribes to the key and then reads it, so that a
result stored in between is not missed. Only ``store_result`` writes a document.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from turbo.backends.called import CalledByPrograms
from turbo.backends.reader import Meta, decode_meta, pending
from turbo.backends.redis.chords import RedisChords
from turbo.backends.redis.pubsub_waiter import PubsubWaiter
from turbo.backends.redis.wire import joined, lifetime, task_key_prefix
from turbo.backends.url import RedisAddress, parse_redis_url, redact_backend_url
from turbo.exceptions import ImproperlyConfigured, OperationalError, TimeoutError
from turbo.policy.restarts import reconnect_delay
from turbo.protocol.content import encode
from turbo.protocol.faults import to_wire
from turbo.protocol.ids import text_id
from turbo.protocol.result_meta import build_meta, stored_form
from turbo.states import READY_STATES

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis
    from redis.client import PubSub

    from turbo.amqp.topology import Queue
    from turbo.backends.reader_settings import ReaderSettings

logger = logging.getLogger(__name__)

#: Longest wait for a message, in seconds, before the document is read again. This finds results whose publication was
#: lost, for example in a failover.
_LOOK_AGAIN = 5.0


class _Subscriptions(threading.local):
    """The thread's subscribing connection.

    Kept open, since programs wait for one result after another.
    """

    pubsub: PubSub | None = None
    pid: int = 0


class RedisReader(CalledByPrograms):
    """Reads ``celery-task-meta-<id>``. Thread-safe and fork-safe."""

    def __init__(self, url: str, settings: ReaderSettings) -> None:
        self._url = url
        self._address = parse_redis_url(url, settings.redis_ssl)
        self._settings = settings
        self._prefix = task_key_prefix(settings.global_keyprefix)
        self._lock = threading.Lock()
        self._client: redis.Redis | None = None
        self._subscriptions = _Subscriptions()
        self._pubsub_waiter: PubsubWaiter | None = None
        self.chords = RedisChords(self._ask, joined(settings.global_keyprefix), settings)
        #: Groups are saved beside the counters of chords.
        self.groups = self.chords

    # -- the Protocol ----------------------------------------------------------------------------------------

    def get_task_meta(self, task_id: str, cache: bool = True) -> Meta:
        """Return the stored document, or a PENDING one if there is none.

        Raises ``OperationalError``.
        """
        stored = self._ask(lambda client: client.get(self._key(task_id)))
        return pending() if stored is None else self._decode(stored)

    def wait_for(
        self,
        task_id: str,
        *,
        timeout: float | None = None,
        interval: float = 0.5,
        on_interval: Callable[[], object] | None = None,
        on_message: Callable[[Meta], object] | None = None,
    ) -> Meta:
        """Wait until the state is final and return the document.

        Reconnects while Redis cannot be reached. Raises ``TimeoutError``.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        failures = 0
        while True:
            try:
                meta = self.get_task_meta(task_id)
                if meta["status"] in READY_STATES:
                    if on_message is not None:
                        on_message(meta)
                    return meta
                return self._await_message(task_id, deadline, interval, on_interval, on_message)
            except OperationalError as error:
                failures += 1
                logger.warning("Redis failed while waiting for the result of task %s; reconnecting: %s", task_id, error)
                self._drop_subscription()
                delay = reconnect_delay(failures, random.random())
                if deadline is not None and time.monotonic() + delay > deadline:
                    raise TimeoutError("The operation timed out.") from error
                time.sleep(delay)

    def watch(self, task_id: str, found: Callable[[Meta], object]) -> Callable[[], None]:
        """Call ``found`` once with the final document, in the waiting thread.

        That thread waits for all watched results.
        """
        with self._lock:
            if self._pubsub_waiter is None:
                self._pubsub_waiter = PubsubWaiter(lambda: self._ask(_subscription), self._ask, self._decode)
            pubsub_waiter = self._pubsub_waiter
        return pubsub_waiter.watch(self._key(task_id), found)

    def forget(self, task_id: str) -> None:
        """Delete the document."""
        self._ask(lambda client: client.delete(self._key(task_id)))

    def store_result(
        self, task_id: str, result: object, state: str, traceback: str | None = None, request: Any = None
    ) -> None:
        """Store and publish a document, for states that are set outside a worker."""
        if isinstance(result, BaseException) and self._settings.serializer != "pickle":
            result = to_wire(result)
        done = datetime.now(UTC).isoformat() if state in READY_STATES else None
        meta = build_meta(
            text_id(task_id), state, stored_form(result, self._settings.serializer), traceback, date_done=done,
            children=[child.as_tuple() for child in getattr(request, "children", None) or ()],
            group_id=getattr(request, "group", None), parent_id=getattr(request, "parent_id", None),
        )  # fmt: skip
        document = encode(meta, self._settings.serializer)[0]
        key, seconds = self._key(task_id), int(lifetime(self._settings.expires))

        def write(client: redis.Redis) -> None:
            with client.pipeline() as pipe:
                pipe.set(key, document, ex=seconds or None)
                pipe.publish(key, document)
                pipe.execute()

        self._ask(write)

    def reply_queue(self, name: str) -> Queue | None:
        """Return None: results are not sent through the broker."""
        return None

    def as_uri(self, include_password: bool = False) -> str:
        """Return the URL; the password is replaced by ``**`` unless ``include_password``."""
        return self._url if include_password else redact_backend_url(self._url)

    def close(self) -> None:
        """Close this process's connections."""
        self._drop_subscription()
        with self._lock:
            pubsub_waiter, self._pubsub_waiter = self._pubsub_waiter, None
        if pubsub_waiter is not None:
            pubsub_waiter.close()
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    # -- inside ----------------------------------------------------------------------------------------------

    def _key(self, task_id: str) -> bytes:
        return self._prefix + text_id(task_id).encode()

    def _decode(self, stored: bytes) -> Meta:
        settings = self._settings
        return decode_meta(stored, settings.content_type, settings.content_encoding, settings.accept)

    def _connected(self) -> redis.Redis:
        with self._lock:
            if self._client is None:
                self._client = _client(self._address, self._settings)
            return self._client

    def _ask(self, question: Callable[[redis.Redis], Any]) -> Any:
        # redis-py belongs to the "redis" extra, so it is imported at the first use of the store
        import redis

        try:
            return question(self._connected())
        except (redis.RedisError, OSError) as error:
            raise OperationalError(f"Redis at {self._address}: {error}") from error

    def _await_message(
        self,
        task_id: str,
        deadline: float | None,
        interval: float,
        on_interval: Callable[[], object] | None,
        on_message: Callable[[Meta], object] | None,
    ) -> Meta:
        """Subscribe, read the document, then wait for messages.

        Ends when the state is final or the deadline has passed.
        """
        key = self._key(task_id)
        pubsub = self._ask(lambda client: self._subscribe(client, key))
        looked = time.monotonic()
        try:
            while True:
                if on_interval is not None:
                    on_interval()
                now = time.monotonic()
                if deadline is not None and now >= deadline:
                    raise TimeoutError("The operation timed out.")
                wait = _LOOK_AGAIN if on_interval is None else max(interval, 0.001)
                if deadline is not None:
                    wait = min(wait, deadline - now)
                message = self._next_message(pubsub, wait)
                meta = None
                if message is None:
                    stale = time.monotonic() - looked >= _LOOK_AGAIN
                elif message["channel"] == key and message["type"] == "message":
                    meta, stale = self._decode(message["data"]), False
                else:
                    # The subscription was confirmed, or renewed after redis-py reconnected: read the document, since
                    # messages may have been missed.
                    stale = message["channel"] == key and message["type"] == "subscribe"
                if stale:
                    meta, looked = self.get_task_meta(task_id), time.monotonic()
                if meta is not None and on_message is not None:
                    on_message(meta)
                if meta is not None and meta["status"] in READY_STATES:
                    return meta
        finally:
            self._unsubscribe(key)

    def _next_message(self, pubsub: PubSub, wait: float) -> Any:
        return self._ask(lambda _: pubsub.get_message(timeout=wait))

    def _subscribe(self, client: redis.Redis, key: bytes) -> PubSub:
        mine = self._subscriptions
        if mine.pubsub is None or mine.pid != os.getpid():
            mine.pubsub, mine.pid = client.pubsub(), os.getpid()  # type: ignore[no-untyped-call]
        mine.pubsub.subscribe(key)
        return mine.pubsub

    def _unsubscribe(self, key: bytes) -> None:
        pubsub = self._subscriptions.pubsub
        if pubsub is None:
            return
        try:
            self._ask(lambda _: pubsub.unsubscribe(key))  # type: ignore[no-untyped-call]
        except OperationalError as error:
            logger.debug("Unsubscribing from a result failed; closing the connection: %s", error)
            self._drop_subscription()

    def _drop_subscription(self) -> None:
        pubsub, self._subscriptions.pubsub = self._subscriptions.pubsub, None
        if pubsub is not None and self._subscriptions.pid == os.getpid():
            pubsub.close()


def _subscription(client: redis.Redis) -> PubSub:
    found: PubSub = client.pubsub()  # type: ignore[no-untyped-call]
    return found


def _client(address: RedisAddress, settings: ReaderSettings) -> redis.Redis:
    """Return a redis-py client, which connects at first use and keeps a pool.

    It reconnects after a fork.
    """
    try:
        import redis
        from redis.backoff import ExponentialBackoff
        from redis.retry import Retry
    except ImportError as error:
        raise ImproperlyConfigured("results in Redis need the extra turbo-worker[redis]") from error
    options: dict[str, Any] = {
        "db": address.db,
        "username": address.username,
        "password": address.password,
        "client_name": address.client_name,
        # Less than half a second in total; longer waits happen in wait_for, which has the deadline.
        "retry": Retry(ExponentialBackoff(cap=0.2, base=0.05), 3),
        "socket_timeout": address.socket_timeout or settings.socket_timeout,
    }
    if address.path is not None:
        return redis.Redis(unix_socket_path=address.path, **options)
    options["socket_connect_timeout"] = address.socket_connect_timeout or settings.connect_timeout
    tls = address.tls
    if tls is not None:
        options |= {
            "ssl": True,
            "ssl_ca_certs": tls.ca_certs,
            "ssl_certfile": tls.certfile,
            "ssl_keyfile": tls.keyfile,
            "ssl_cert_reqs": tls.cert_reqs,
            "ssl_check_hostname": tls.check_hostname and tls.cert_reqs.name == "CERT_REQUIRED",
        }
    return redis.Redis(host=address.host, port=address.port, **options)
