"""A monitor: hears the events of workers and producers as Flower and ``celery events`` do, by Celery's receiver."""

from __future__ import annotations

import threading
from typing import Any

from celery import Celery

from tests.harness.processes import PATIENCE, HarnessError, wait_until


class Monitor:
    """Keeps every event that it hears, in order; a context manager that hears everything sent within it."""

    def __init__(self, client: Celery) -> None:
        self._client = client
        self.heard: list[dict[str, Any]] = []
        self._stop = threading.Event()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Monitor:
        self._thread.start()
        assert self._listening.wait(PATIENCE)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(PATIENCE)

    def _listen(self) -> None:
        with self._client.connection_for_read() as connection:
            receiver = self._client.events.Receiver(connection, handlers={"*": self.heard.append})
            with receiver.consumer_context() as (its_own, _channel, _consumers):
                self._listening.set()
                while not self._stop.is_set():
                    try:
                        its_own.drain_events(timeout=0.2)
                    except TimeoutError:
                        continue

    def of(self, uuid: str) -> list[dict[str, Any]]:
        """Return the events of one task, in the order in which they were heard."""
        return [event for event in list(self.heard) if event.get("uuid") == uuid]

    def types_of(self, uuid: str) -> list[str]:
        """Return their types."""
        return [event["type"] for event in self.of(uuid)]

    def wait_types(self, uuid: str, *types: str, more: bool = False) -> list[dict[str, Any]]:
        """Wait until these types of events of one task were heard, in this order; return the events.

        A task's next attempt may be received before its worker has said that this one ends: no worker can prevent that.

        ``more``: others may follow, which are not returned.
        """
        wanted, most = list(types), len(types) if more else None

        def found() -> list[dict[str, Any]]:
            return _in_order(self.of(uuid))[:most]

        try:
            wait_until("the events are heard", lambda: [event["type"] for event in found()] == wanted, PATIENCE)
        except HarnessError:
            raise HarnessError(f"the events of {uuid} are {self.types_of(uuid)}, not {wanted}") from None
        return found()

    def wait(self, kind: str, after: int = 0, *, node: str) -> dict[str, Any]:
        """Wait for an event of a worker beyond the first ``after``."""

        def found() -> list[dict[str, Any]]:
            return [event for event in self.heard[after:] if (event["type"], event["hostname"]) == (kind, node)]

        wait_until(f"{kind} of {node} is heard", lambda: bool(found()), PATIENCE)
        return found()[0]


def _in_order(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put the end of an attempt that asks for another before what is said of the other."""
    types = [event["type"] for event in events]
    for end in ("task-retried", "task-rejected"):
        if end in types and types.count("task-received") > 1:
            second = types.index("task-received", types.index("task-received") + 1)
            at = types.index(end)
            if at > second:
                events.insert(second, events.pop(at))
                types.insert(second, types.pop(at))
    return events
