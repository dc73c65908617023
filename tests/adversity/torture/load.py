"""Load for the torture tests: bulk publishing, a queue that is kept filled, and fast lookup of children's pids."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pika

from turbo.protocol.building import build
from turbo.protocol.content import encode

QUEUE = "celery"


class Producer:
    """A blocking connection that publishes task messages to the worker's queue."""

    def __init__(self, url: str, queue: str = QUEUE) -> None:
        self._queue = queue
        self._connection = pika.BlockingConnection(pika.URLParameters(url))
        self._channel = self._connection.channel()
        self._channel.queue_declare(queue, durable=True)

    def send(self, messages: Iterable[tuple[str, str, tuple[Any, ...]]], **options: Any) -> int:
        """Publish (id, task name, arguments) tuples; return how many. The broker has confirmed all of them."""
        count = 0
        for identifier, name, arguments in messages:
            headers, body, props = build(identifier, name, arguments, **{"delivery_mode": 1, **options})
            data, content_type, encoding = encode(body, "json")
            properties = pika.BasicProperties(
                content_type=content_type,
                content_encoding=encoding,
                headers=headers,
                delivery_mode=props.delivery_mode,
                correlation_id=identifier,
            )
            self._channel.basic_publish("", self._queue, data, properties)
            count += 1
        # The broker takes a channel's frames in order: this answer means that it has routed everything before.
        self._channel.queue_declare(self._queue, passive=True)
        return count

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class Progress:
    """Counts the lines of the oracle's file as it grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self.ends = 0

    def look(self) -> int:
        """Return how many tasks have ended so far."""
        with self._path.open("rb") as source:
            source.seek(self._offset)
            data = source.read()
        self._offset += len(data)
        # A line is one write, so no look cuts one in two.
        self.ends += data.count(b"end|")
        return self.ends


class Feeder(threading.Thread):
    """Keeps about ``depth`` messages in the queue until ``stop`` is set; ``sent`` holds the ids by task name."""

    def __init__(self, url: str, progress: Progress, depth: int) -> None:
        super().__init__(name="feeder", daemon=True)
        self._producer = Producer(url)
        self._progress = progress
        self._depth = depth
        self._halt = threading.Event()
        #: How many of each kind: ids are ``e-0 … e-(n-1)`` and ``l-0 … l-(n-1)``.
        self.each = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self._halt.is_set():
                if 2 * self.each - self._progress.look() > self._depth:
                    self._halt.wait(0.01)
                    continue
                self.feed(250)
        except BaseException as error:  # noqa: BLE001 - handed to the test's thread by ``finish``
            self.error = error

    def feed(self, each: int) -> None:
        """Publish ``each`` tasks of both kinds, mixed."""
        first = self.each
        self.each += each
        self._producer.send(
            (f"{kind}-{number}", name, ())
            for number in range(first, first + each)
            for kind, name in (("e", "early"), ("l", "late"))
        )

    def finish(self) -> None:
        """Stop publishing; raise the error of the thread if it failed. Idempotent."""
        if self._halt.is_set():
            return
        self._halt.set()
        if self.ident is not None:
            self.join(60)
        self._producer.close()
        if self.error is not None:
            raise self.error


def child_pids(parent: int) -> list[int]:
    """Return the pids of a process's children, without reading the whole process table."""
    try:
        return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
    except FileNotFoundError:
        return []
