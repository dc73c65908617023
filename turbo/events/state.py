"""The state of a cluster, made of its events: its workers and its tasks.

Filled by a program that watches: ``EventReceiver(handlers={"*": state.event})``. It is in memory and bounded; what is
oldest is dropped first. The names are those of ``celery.events.state``. It must never talk to a broker.
"""

from __future__ import annotations

import bisect
import threading
import time
from collections import OrderedDict
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

from turbo import states

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

V = TypeVar("V")

#: States that events tell of; another type is a state of the program's own, in capitals.
_STATE_OF: Final = {
    "sent": states.PENDING, "received": states.RECEIVED, "started": states.STARTED, "failed": states.FAILURE,
    "retried": states.RETRY, "succeeded": states.SUCCESS, "revoked": states.REVOKED, "rejected": states.REJECTED,
}  # fmt: skip
#: Fields that only task-received tells: an event that comes too late changes nothing else.
_RECEIVED: Final = ("name", "args", "kwargs", "parent_id", "root_id", "retries", "eta", "expires")


class Worker:
    """One worker, with the fields of its latest event."""

    heartbeat_max: ClassVar[int] = 4
    #: A worker is offline when its last heartbeat is longer ago than so many percent of its interval.
    expire_window: ClassVar[int] = 200

    def __init__(
        self,
        hostname: str | None = None,
        pid: int | None = None,
        freq: float = 60,
        heartbeats: list[float] | None = None,
        clock: int = 0,
        active: int | None = None,
        processed: int | None = None,
        loadavg: Any = None,
        sw_ident: str | None = None,
        sw_ver: str | None = None,
        sw_sys: str | None = None,
    ) -> None:
        self.hostname = hostname
        self.pid = pid
        self.freq = freq
        #: When the latest events came, as Unix times in their order.
        self.heartbeats = heartbeats if heartbeats is not None else []
        self.clock = clock or 0
        self.active = active
        self.processed = processed
        self.loadavg = loadavg
        self.sw_ident = sw_ident
        self.sw_ver = sw_ver
        self.sw_sys = sw_sys

    def event(
        self,
        type_: str | None,
        timestamp: float | None = None,
        local_received: float | None = None,
        fields: Mapping[str, Any] | None = None,
    ) -> None:
        """Take an event up."""
        self.update(fields or {})
        if type_ == "offline":
            self.heartbeats.clear()
        elif local_received and timestamp:
            bisect.insort(self.heartbeats, local_received)
            del self.heartbeats[: -self.heartbeat_max]

    def update(self, f: Mapping[str, Any], **kw: Any) -> None:
        """Set attributes."""
        for name, value in {**f, **kw}.items():
            setattr(self, name, value)

    @property
    def status_string(self) -> str:
        """``ONLINE`` or ``OFFLINE``."""
        return "ONLINE" if self.alive else "OFFLINE"

    @property
    def heartbeat_expires(self) -> float:
        """The Unix time from which it is offline; IndexError without a heartbeat."""
        return self.heartbeats[-1] + float(self.freq) * self.expire_window / 100

    @property
    def alive(self) -> bool:
        """Whether its heartbeats have come in time."""
        return bool(self.heartbeats) and time.time() < self.heartbeat_expires

    @property
    def id(self) -> str:
        """Node name and pid."""
        return f"{self.hostname}.{self.pid}"

    def __eq__(self, other: object) -> bool:
        return self.hostname == other.hostname if isinstance(other, Worker) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.hostname)

    def __repr__(self) -> str:
        return f"<Worker: {self.hostname} ({self.status_string} clock:{self.clock})"


class Task:
    """One call of a task. ``succeeded``, ``failed`` … are the times of these events."""

    state: str = states.PENDING
    clock: int = 0
    name: str | None = None
    client: str | None = None
    worker: Worker | None = None
    timestamp: float | None = None
    parent_id: str | None = None
    root_id: str | None = None
    received = sent = started = rejected = succeeded = failed = retried = revoked = None
    args = kwargs = eta = expires = retries = result = exception = runtime = traceback = None
    exchange = routing_key = None

    merge_rules: ClassVar[Mapping[str, tuple[str, ...]]] = {states.RECEIVED: _RECEIVED}
    _fields: ClassVar[tuple[str, ...]] = (
        "uuid", "name", "state", "received", "sent", "started", "rejected", "succeeded", "failed", "retried", "revoked",
        "args", "kwargs", "eta", "expires", "retries", "worker", "result", "exception", "timestamp", "runtime",
        "traceback", "exchange", "routing_key", "clock", "client", "root_id", "parent_id",
    )  # fmt: skip
    _info_fields: ClassVar[tuple[str, ...]] = (
        "args", "kwargs", "retries", "result", "eta", "runtime", "expires", "exception", "exchange", "routing_key",
        "root_id", "parent_id",
    )  # fmt: skip

    def __init__(self, uuid: str | None = None, cluster_state: State | None = None, **kwargs: Any) -> None:
        self.uuid = uuid
        self.cluster_state = cluster_state
        vars(self).update(kwargs)

    def event(
        self,
        type_: str,
        timestamp: float | None = None,
        local_received: float | None = None,
        fields: Mapping[str, Any] | None = None,
    ) -> None:
        """Take an event up, also one that comes after events which happened later."""
        told = dict(fields or {})
        state = _STATE_OF.get(type_, type_.upper())
        if type_ in _STATE_OF:
            setattr(self, type_, timestamp)
        again = states.RETRY in (state, self.state)
        if not again and states.precedence(state) > states.precedence(self.state):
            kept = self.merge_rules.get(state)
            told = {name: value for name, value in told.items() if kept is None or name in kept}
        else:
            told.update(state=state, timestamp=timestamp)
        vars(self).update(told)

    def info(self, fields: Iterable[str] | None = None, extra: Iterable[str] = ()) -> dict[str, Any]:
        """Return what is known of the given fields, or of those that people want to see."""
        names = [*(self._info_fields if fields is None else fields), *(extra or ())]
        return {name: getattr(self, name) for name in names if getattr(self, name, None) is not None}

    def as_dict(self) -> dict[str, Any]:
        """Return all fields, with the ids of the tasks that it belongs to."""
        found = {name: getattr(self, name) for name in self._fields}
        return {
            **found,
            "root": self.root_id,
            "parent": self.parent_id,
            "children": [each.id for each in self.children],
        }

    @property
    def id(self) -> str | None:
        """The same as ``uuid``."""
        return self.uuid

    @property
    def origin(self) -> str | None:
        """The worker's id, or the client's name before a worker has it."""
        return self.client if self.worker is None else self.worker.id

    @property
    def ready(self) -> bool:
        """Whether it has ended."""
        return self.state in states.READY_STATES

    @property
    def parent(self) -> Task | None:
        """The task that called this one, if it is known."""
        return self._known(self.parent_id)

    @property
    def root(self) -> Task | None:
        """The first task of the calls that led to this one, if it is known."""
        return self._known(self.root_id)

    @property
    def children(self) -> list[Task]:
        """The known tasks that this one called."""
        known = self.cluster_state.tasks.values() if self.cluster_state is not None else ()
        return [each for each in known if each.parent_id == self.uuid]

    def _known(self, identifier: str | None) -> Task | None:
        return self.cluster_state.tasks.get(identifier or "") if self.cluster_state is not None else None

    def __eq__(self, other: object) -> bool:
        return self.uuid == other.uuid if isinstance(other, Task) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.uuid)

    def __repr__(self) -> str:
        return f"<Task: {self.name}({self.uuid}) {self.state} clock:{self.clock}>"


class Recent(OrderedDict[str, V]):
    """A mapping of at most ``limit`` items; the oldest is dropped first."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit

    def __setitem__(self, name: str, value: V) -> None:
        super().__setitem__(name, value)
        while len(self) > self.limit:
            self.popitem(last=False)


class State:
    """The workers and tasks of a cluster. ``callback(state, event)`` is called first."""

    Worker: ClassVar[type[Worker]] = Worker
    Task: ClassVar[type[Task]] = Task
    #: Events that the order by time keeps for each task.
    heap_multiplier: ClassVar[int] = 4

    def __init__(
        self,
        callback: Callable[[State, dict[str, Any]], object] | None = None,
        max_workers_in_memory: int = 5000,
        max_tasks_in_memory: int = 10000,
        on_node_join: Callable[[Any], object] | None = None,
        on_node_leave: Callable[[Any], object] | None = None,
    ) -> None:
        self.event_callback = callback
        self.workers: Recent[Any] = Recent(max_workers_in_memory)
        self.tasks: Recent[Any] = Recent(max_tasks_in_memory)
        self.max_workers_in_memory = max_workers_in_memory
        self.max_tasks_in_memory = max_tasks_in_memory
        self.on_node_join = on_node_join
        self.on_node_leave = on_node_leave
        self.event_count = 0
        self.task_count = 0
        #: Handlers of groups, the first words of types, which replace this class's own.
        self.handlers: dict[str, Callable[[str, dict[str, Any]], Any]] = {}
        self._lock = threading.Lock()
        self._types: set[str] = set()
        #: Clock, time, origin and id of the events of tasks, in this order.
        self._order: list[tuple[int, float, str, str]] = []

    def event(self, event: dict[str, Any]) -> Any:
        """Take an event up; return ``((worker or task, whether new), what happened)``."""
        with self._lock:
            self.event_count += 1
            if self.event_callback is not None:
                self.event_callback(self, event)
            group, _, subject = str(event["type"]).partition("-")
            if group in self.handlers:
                return self.handlers[group](subject, event), subject
            if group == "worker" and "hostname" in event:
                return self._worker_event(subject, event), subject
            if group == "task":
                return self._task_event(subject, event), subject
            return None

    def _worker_event(self, subject: str, event: dict[str, Any]) -> tuple[Any, bool]:
        hostname = event["hostname"]
        created = hostname not in self.workers
        worker = self.Worker(hostname) if created else self.workers[hostname]
        worker.event(subject, event.get("timestamp"), event.get("local_received"), event)
        if subject == "offline":
            self.workers.pop(hostname, None)
            if self.on_node_leave is not None:
                self.on_node_leave(worker)
            return worker, False
        self.workers[hostname] = worker
        if self.on_node_join is not None and (created or subject == "online"):
            self.on_node_join(worker)
        return worker, created

    def _task_event(self, subject: str, event: dict[str, Any]) -> tuple[Any, bool]:
        identifier, hostname = event["uuid"], event["hostname"]
        timestamp, received = event.get("timestamp"), event.get("local_received")
        task, created = self.get_or_create_task(identifier)
        if subject == "sent":
            task.client = hostname
        else:
            task.worker, _ = self.get_or_create_worker(hostname)
            task.worker.event(None, timestamp, received)
        bisect.insort(self._order, (event.get("clock") or 0, timestamp or 0.0, str(task.origin), identifier))
        del self._order[: -self.max_tasks_in_memory * self.heap_multiplier]
        self.task_count += subject == "received"
        task.event(subject, timestamp, received, event)
        if task.name is not None:
            self._types.add(task.name)
        return task, created

    # -- what programs ask -----------------------------------------------------------------------------------

    def get_or_create_worker(self, hostname: str, **kwargs: Any) -> tuple[Any, bool]:
        """Return a worker and whether it is new."""
        if hostname in self.workers:
            self.workers[hostname].update(kwargs)
            return self.workers[hostname], False
        worker = self.workers[hostname] = self.Worker(hostname, **kwargs)
        return worker, True

    def get_or_create_task(self, uuid: str) -> tuple[Any, bool]:
        """Return a task and whether it is new."""
        if uuid in self.tasks:
            return self.tasks[uuid], False
        task = self.tasks[uuid] = self.Task(uuid, cluster_state=self)
        return task, True

    def alive_workers(self) -> Iterator[Any]:
        """Yield the workers whose heartbeats come."""
        return (worker for worker in list(self.workers.values()) if worker.alive)

    def itertasks(self, limit: int | None = None) -> Iterator[tuple[str, Any]]:
        """Yield ids and tasks, the oldest first."""
        return islice(self.tasks.items(), limit or None)

    def tasks_by_time(self, limit: int | None = None, reverse: bool = True) -> Iterator[tuple[str, Any]]:
        """Yield ids and tasks of the last ``limit`` events, the latest first."""
        order = reversed(self._order) if reverse else iter(self._order)
        seen = dict.fromkeys(identifier for *_, identifier in islice(order, limit))
        return ((identifier, self.tasks[identifier]) for identifier in seen if identifier in self.tasks)

    tasks_by_timestamp = tasks_by_time

    def tasks_by_type(self, name: str, limit: int | None = None, reverse: bool = True) -> Iterator[tuple[str, Any]]:
        """Yield ids and tasks of this name by time."""
        found = (each for each in self.tasks_by_time(reverse=reverse) if each[1].name == name)
        return islice(found, limit)

    def tasks_by_worker(
        self, hostname: str, limit: int | None = None, reverse: bool = True
    ) -> Iterator[tuple[str, Any]]:
        """Yield ids and tasks of this worker by time."""
        by_time = self.tasks_by_time(reverse=reverse)
        found = (each for each in by_time if getattr(each[1].worker, "hostname", None) == hostname)
        return islice(found, limit)

    def task_types(self) -> list[str]:
        """Return the names of all tasks that have been seen."""
        return sorted(self._types)

    def freeze_while(self, fun: Callable[..., V], *args: Any, clear_after: bool = False, **kwargs: Any) -> V:
        """Call a function while no event is taken up; ``clear_after``: then clear."""
        with self._lock:
            try:
                return fun(*args, **kwargs)
            finally:
                if clear_after:
                    self._clear(ready=True)

    def clear_tasks(self, ready: bool = True) -> None:
        """Forget all tasks; with ``ready``, only those that have ended."""
        with self._lock:
            self._clear_tasks(ready=ready)

    def clear(self, ready: bool = True) -> None:
        """Forget workers, counts, and tasks as :meth:`clear_tasks` does."""
        with self._lock:
            self._clear(ready=ready)

    def _clear(self, *, ready: bool) -> None:
        self.workers.clear()
        self._clear_tasks(ready=ready)
        self.event_count = self.task_count = 0

    def _clear_tasks(self, *, ready: bool) -> None:
        kept = {name: task for name, task in self.tasks.items() if ready and not task.ready}
        self.tasks.clear()
        self.tasks.update(kept)
        self._order = [each for each in self._order if each[3] in kept]

    def __repr__(self) -> str:
        return f"<State: events={self.event_count} tasks={self.task_count}>"
