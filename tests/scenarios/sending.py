"""Celery's and turbo's client behind a common interface, which the scenarios use to send."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import celery.canvas
from celery import Celery

import turbo.canvas
from tests.scenarios.apps.scenario_settings import SETTINGS
from turbo.app.base import Turbo

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType


class Client(Protocol):
    """Sends tasks by name, and reads their results."""

    name: str
    app: Any
    #: Its classes of groups, chains and chords.
    canvas: ModuleType

    def send(self, task: str, args: Any, kwargs: Any, task_id: str, protocol: int, options: dict[str, Any]) -> object:
        """Send one message."""

    def signature(self, task: str, args: Any, kwargs: Any, immutable: bool, options: dict[str, Any]) -> Any:
        """Return a signature."""

    def chain(self, steps: list[Any]) -> object:
        """Send a chain."""

    def result(self, task_id: str) -> Any:
        """Return the result handle of a call."""

    def close_thread(self) -> None:
        """Close what this thread has of its own."""

    def close(self) -> None:
        """Close all connections."""


class CeleryClient:
    """A Celery app with settings and without tasks, like a separate producer."""

    name = "celery"
    canvas = celery.canvas

    def __init__(self, broker: str, backend: str) -> None:
        self.app = Celery("client", broker=broker, backend=backend, set_as_current=False, changes=dict(SETTINGS))
        old = {**SETTINGS, "task_protocol": 1}
        self._old = Celery("old", broker=broker, backend=backend, set_as_current=False, changes=old)

    def send(self, task: str, args: Any, kwargs: Any, task_id: str, protocol: int, options: dict[str, Any]) -> object:
        """Send one message of protocol 1 or 2."""
        by = self.app if protocol == 2 else self._old
        return by.send_task(task, args, kwargs, task_id=task_id, **options)

    def signature(self, task: str, args: Any, kwargs: Any, immutable: bool, options: dict[str, Any]) -> Any:
        """Return a signature of Celery."""
        return self.app.signature(task, args=args, kwargs=kwargs, immutable=immutable, options=options)

    def chain(self, steps: list[Any]) -> object:
        """Send a chain of Celery."""
        whole = steps[0]
        for step in steps[1:]:
            whole |= step
        return whole.apply_async()

    def result(self, task_id: str) -> Any:
        """Return Celery's result handle."""
        return self.app.AsyncResult(task_id)

    def close_thread(self) -> None:
        """Close this thread's store, of which every thread has another."""
        for app in (self.app, self._old):
            backend = app.backend
            backend.result_consumer.stop()
            # Handles unsubscribe when they are collected; there is nothing left to unsubscribe.
            backend.result_consumer.subscribed_to.clear()
            backend.client.connection_pool.disconnect()

    def close(self) -> None:
        """Close the connections of both apps."""
        self.close_thread()
        for app in (self.app, self._old):
            app.close()


class TurboClient:
    """A ``Turbo`` app with the same settings."""

    name = "turbo"
    canvas = turbo.canvas

    def __init__(self, broker: str, backend: str) -> None:
        self.app = Turbo("client", broker=broker, backend=backend, set_as_current=False, **SETTINGS)

    def send(self, task: str, args: Any, kwargs: Any, task_id: str, protocol: int, options: dict[str, Any]) -> object:
        """Send one message of protocol 2."""
        assert protocol == 2
        return self.app.send_task(task, args, kwargs, task_id=task_id, **options)

    def signature(self, task: str, args: Any, kwargs: Any, immutable: bool, options: dict[str, Any]) -> Any:
        """Return a signature of turbo."""
        return self.app.signature(task, args=args, kwargs=kwargs, immutable=immutable, options=options)

    def chain(self, steps: list[Any]) -> object:
        """Send a chain of turbo."""
        whole = steps[0]
        for step in steps[1:]:
            whole |= step
        return whole.apply_async()

    def result(self, task_id: str) -> Any:
        """Return turbo's result handle."""
        return self.app.AsyncResult(task_id)

    def close_thread(self) -> None:
        """Do nothing: all threads share everything."""

    def close(self) -> None:
        """Close the connections."""
        self.app.close()


class Sending:
    """The argument of a scenario's ``send``: one client, and the ids of the messages."""

    def __init__(self, client: Client, scenario: str) -> None:
        self.client = client
        self.prefix = f"{client.name}-{scenario}-"

    @property
    def app(self) -> Any:
        """The client's app."""
        return self.client.app

    @property
    def canvas(self) -> ModuleType:
        """The ``canvas`` module of the client's library."""
        return self.client.canvas

    def group(self, *members: Any) -> Any:
        """Return a group, not sent."""
        return self.canvas.group(*members)

    def chord(self, header: Any, body: Any) -> Any:
        """Return a chord, not sent."""
        return self.canvas.chord(header, body)

    def steps(self, *steps: Any) -> Any:
        """Return a chain, not sent."""
        return self.canvas.chain(*steps)

    def id(self, label: str) -> str:
        """Return the id of the message with a label."""
        return self.prefix + label

    def send(self, label: str, task: str, *args: Any, kwargs: Mapping[str, Any] | None = None, protocol: int = 2,
             **options: Any) -> object:  # fmt: skip
        """Send a message under a label."""
        return self.client.send(task, args, dict(kwargs or {}), self.id(label), protocol, options)

    def sig(self, label: str, task: str, *args: Any, kwargs: Mapping[str, Any] | None = None, immutable: bool = False,
            **options: Any) -> Any:  # fmt: skip
        """A signature whose message will have this label; with an empty label the sender chooses the id."""
        if label:
            options["task_id"] = self.id(label)
        return self.client.signature(task, args, dict(kwargs or {}), immutable, options)

    def chain(self, *steps: Any) -> object:
        """Send a chain of signatures."""
        return self.client.chain(list(steps))
