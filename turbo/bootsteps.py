"""``turbo.bootsteps``: steps for ``app.steps``, by the names of Celery's module.

Written by programs, for turbo's own apps. Their steps are made and run in the master, on threads beside its loop: see
``master.worker_steps`` and ``master.consumer_steps``. A :class:`ConsumerStep` gets a channel on a connection of its
own, and returns :class:`Consumer` objects of it, which stand for those of kombu.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from turbo.app.consuming import Consumer, Message
from turbo.exceptions import OperationalError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

__all__ = ["Consumer", "ConsumerStep", "Message", "StartStopStep", "Step"]


class Stepped(Protocol):
    """The worker or its consumer, to which steps belong."""

    steps: list[Any]


class StepType(type):
    """The class of step classes: each has a name, by default its module's and its own."""

    name: str
    requires: Collection[Any]

    def __new__(cls, name: str, bases: tuple[type, ...], attributes: dict[str, Any]) -> StepType:
        """Make a step class."""
        module = attributes.get("__module__")
        attributes["name"] = attributes.get("name") or (f"{module}.{name}" if module else name)
        return super().__new__(cls, name, bases, attributes)

    def __str__(cls) -> str:
        return cls.name

    def __repr__(cls) -> str:
        return f"step:{cls.name}{{{cls.requires!r}}}"


class Step(metaclass=StepType):
    """A step that acts when the worker begins: in ``__init__`` or in :meth:`create`.

    ``requires`` names the steps to run before it, as classes or dotted names. The constructor gets the worker and the
    options of its command line.
    """

    name: ClassVar[str]
    label: str | None = None
    conditional: bool = False
    requires: ClassVar[Collection[Any]] = ()
    last: bool = False
    enabled: bool = True

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        pass

    def include_if(self, parent: Any) -> bool:
        """Return whether the step runs."""
        return self.enabled

    def create(self, parent: Any) -> Any:
        """Called if the step runs."""

    def include(self, parent: Any) -> bool:
        """Create the step if it runs; return whether it does."""
        return self._created(parent)[0]

    def _created(self, parent: Any) -> tuple[bool, Any]:
        return (True, self.create(parent)) if self.include_if(parent) else (False, None)

    @property
    def alias(self) -> str:
        """A short name."""
        return self.label or self.name.rpartition(".")[2]

    def info(self, obj: Any) -> Any:
        """For a program's own use."""

    def __repr__(self) -> str:
        return f"<step: {self.alias}>"


class StartStopStep(Step):
    """A step that is started with the worker and stopped with it.

    ``obj`` is what :meth:`create` returned.
    """

    obj: Any = None

    def start(self, parent: Any) -> Any:
        """Start ``obj``, if there is one."""
        return self.obj.start() if self.obj else None

    def stop(self, parent: Any) -> Any:
        """Stop ``obj``, if there is one."""
        return self.obj.stop() if self.obj else None

    def close(self, parent: Any) -> None:
        """Called before any step is stopped."""

    def terminate(self, parent: Any) -> Any:
        """Terminate ``obj`` if it can be terminated, else stop it."""
        return getattr(self.obj, "terminate", self.obj.stop)() if self.obj else None

    def include(self, parent: Stepped) -> bool:
        """Create the step and add it to those that are started, if it runs.

        Return whether it does.
        """
        included, self.obj = self._created(parent)
        if included:
            parent.steps.append(self)
        return included


class ConsumerStep(StartStopStep):
    """A step that consumes from queues of its own, beside the worker's tasks."""

    requires: ClassVar[Collection[Any]] = ("turbo.worker.consumer:Connection",)
    consumers: Iterable[Any] | None = None

    def get_consumers(self, channel: Any) -> Iterable[Consumer]:
        """Return the consumers, made of ``channel``; to be overridden."""
        raise NotImplementedError("missing get_consumers")

    def start(self, c: Any) -> None:
        """Begin to consume."""
        self.consumers = self.get_consumers(c.connection.channel())
        for consumer in self.consumers or ():
            consumer.consume()

    def stop(self, c: Any) -> None:
        """Cancel the consumers and close their channels."""
        self._close(cancel=True)

    def shutdown(self, c: Any) -> None:
        """Close the consumers' channels."""
        self._close(cancel=False)

    def _close(self, *, cancel: bool) -> None:
        consumers = list(self.consumers or ())
        self.consumers = None
        try:
            for consumer in consumers if cancel else ():
                consumer.cancel()
            for channel in {consumer.channel for consumer in consumers}:
                channel.close()
        except OperationalError:
            # The connection is gone, and the consumers with it.
            return
