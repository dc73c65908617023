"""Waits for many results in Redis in one thread, for ``AsyncResult.aget``.

Made by ``backends.redis.client``, in clients. Coroutines must not occupy a thread per result, so one thread per process
subscribes to all keys, reads each key once after subscribing, and calls back with every final document. The thread
starts with the first result and ends some seconds after the last.

No result is missed: a key is read after the subscription was sent, so that a document stored earlier is found by
reading and a later one by its publication. All keys are read again every few seconds and after each reconnection, in
case publications were lost. A forked process starts empty: the thread, the connection and the callbacks belong to the
parent.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from typing import TYPE_CHECKING, Any

from turbo.exceptions import OperationalError, SerializationError
from turbo.policy.restarts import reconnect_delay
from turbo.states import FAILURE, READY_STATES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from redis.client import PubSub

    from turbo.backends.reader import Meta

logger = logging.getLogger(__name__)

#: Longest wait for a message in seconds, after which new keys are subscribed to.
_TICK = 0.01
#: Seconds after which all keys are read again.
_LOOK_AGAIN = 5.0
#: Seconds without any watched key after which the thread ends.
_LINGER = 5.0


class PubsubWaiter:
    """One thread and the keys that it watches."""

    def __init__(
        self,
        subscribe: Callable[[], PubSub],
        ask: Callable[[Callable[[Any], Any]], Any],
        decode: Callable[[bytes], Meta],
    ) -> None:
        """Set the functions that access Redis.

        ``subscribe`` and ``ask`` raise OperationalError. ``subscribe`` returns a subscribing connection, ``ask`` calls
        a function with a client, ``decode`` decodes a document.
        """
        self._subscribe = subscribe
        self._ask = ask
        self._decode = decode
        self.reset()

    def reset(self) -> None:
        """Drop all state, as needed after a fork."""
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._watched: dict[bytes, list[Callable[[Meta], object]]] = {}
        self._new: set[bytes] = set()
        self._thread: threading.Thread | None = None
        self._closed = False

    def close(self) -> None:
        """End the thread and cancel all callbacks."""
        self._closed = True
        with self._lock:
            self._watched.clear()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread() and self._pid == os.getpid():
            thread.join()

    def watch(self, key: bytes, found: Callable[[Meta], object]) -> Callable[[], None]:
        """Call ``found`` once, in the thread, with the final document of ``key``.

        Returns a cancelling function.
        """
        if self._pid != os.getpid():
            self.reset()
        with self._lock:
            self._watched.setdefault(key, []).append(found)
            self._new.add(key)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="turbo-results", daemon=True)
                self._thread.start()

        def cancel() -> None:
            with self._lock:
                waiting = self._watched.get(key, [])
                if found in waiting:
                    waiting.remove(found)
                    if not waiting:
                        del self._watched[key]

        return cancel

    # -- the thread --------------------------------------------------------------------------------------

    def _run(self) -> None:
        failures = 0
        while True:
            try:
                if self._closed or self._listen():
                    return
                failures = 0
            except OperationalError as error:
                failures += 1
                logger.warning("Redis failed while waiting for results; reconnecting: %s", error)
                time.sleep(reconnect_delay(failures, random.random()))

    def _listen(self) -> bool:
        """Use one connection until no key is watched for ``_LINGER`` seconds.

        Returns True. Raises OperationalError when the connection is lost.
        """
        with self._lock:
            self._new.update(self._watched)
        pubsub = self._subscribe()
        try:
            looked = busy = time.monotonic()
            while not self._closed:
                now = time.monotonic()
                self._take_new(pubsub)
                if now - looked > _LOOK_AGAIN:
                    looked = now
                    self._look(list(self._watched))
                message = self._ask(lambda _client: pubsub.get_message(timeout=_TICK))
                if message is not None and message["type"] == "message":
                    self._found(message["channel"], message["data"])
                if self._watched:
                    busy = now
                elif now - busy > _LINGER:
                    with self._lock:
                        if not self._watched:
                            self._thread = None
                            return True
            return True
        finally:
            pubsub.close()

    def _take_new(self, pubsub: PubSub) -> None:
        with self._lock:
            new, self._new = [key for key in self._new if key in self._watched], set()
        if new:
            self._ask(lambda _client: pubsub.subscribe(*new))
            self._look(new)

    def _look(self, keys: Sequence[bytes]) -> None:
        if not keys:
            return
        stored = self._ask(lambda client: client.mget(keys))
        for key, document in zip(keys, stored, strict=True):
            if document is not None:
                self._found(key, document)

    def _found(self, key: bytes, document: bytes) -> None:
        try:
            meta = self._decode(document)
        except SerializationError as error:
            # Report the error to the callbacks of this key only, so that other results still arrive.
            meta = {"status": FAILURE, "result": error, "traceback": None, "children": None}
        if meta["status"] not in READY_STATES:
            return
        with self._lock:
            waiting = self._watched.pop(key, [])
        for found in waiting:
            try:
                found(dict(meta))
            except Exception:
                logger.exception("The callback for the result at %s raised", key.decode())
