"""``Request``: one run of a task in the master, for tasks with such a class.

A task names a class derived from this one in ``Task.Request``. ``native.hooks`` makes one for each message that a child
accepts, and calls its methods on the master's hook thread: when the task is accepted, when a limit passes, and when it
ends. The methods may log, count and call other code; they cannot block the consumer. The ack table decides what becomes
of the message, unless a method calls :meth:`Request.acknowledge` or :meth:`Request.reject`. A request must never be
used outside of that thread.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from turbo.exceptions import Retry
from turbo.log_format import printable
from turbo.policy.settling import Verb

if TYPE_CHECKING:
    from datetime import datetime

    from turbo.app.base import Turbo
    from turbo.app.task import Task
    from turbo.app.tasks.context import Context
    from turbo.app.tasks.einfo import ExceptionInfo
    from turbo.protocol.message import TaskMessage

logger = logging.getLogger("celery.worker.request")


class Message:
    """A message, as ``Request.message`` and some receivers see it.

    They are those of ``task_unknown`` and ``task_rejected``.
    """

    def __init__(
        self, *, body: bytes, headers: dict[str, Any], properties: dict[str, Any], delivery_info: dict[str, Any]
    ) -> None:
        self.body = body
        self.headers = headers
        self.properties = properties
        self.delivery_info = delivery_info
        self.content_type = properties.get("content_type")
        self.content_encoding = properties.get("content_encoding")
        self.delivery_tag = delivery_info.get("delivery_tag")

    def __repr__(self) -> str:
        return f"<Message: {self.content_type} of {len(self.body)} bytes, {self.delivery_info!r}>"


class Request:
    """One run of a task.

    Derive from it, and name the class, or its dotted name, as ``Task.Request``.
    """

    #: The message has been acknowledged.
    acknowledged = False
    #: The pid of the child that runs the task, and its start (seconds since the epoch); None before acceptance.
    worker_pid: int | None = None
    time_start: float | None = None

    def __init__(
        self, message: Message, *, app: Turbo, task: Task, found: TaskMessage, context: Context, **_: Any
    ) -> None:
        """``found``: the decoded message. ``context``: the task's ``self.request``."""
        self.message = message
        self.app = app
        self.task = task
        self.id = self.task_id = found.id
        #: The displayed name: the shadow, if there is one, or the task's name.
        self.name = self.task_name = found.shadow or found.task
        self.type = found.task
        self.args = found.args
        self.kwargs = found.kwargs
        self.argsrepr = found.argsrepr
        self.kwargsrepr = found.kwargsrepr
        self.root_id = found.root_id
        self.parent_id = found.parent_id
        self.group = found.group
        self.group_index = found.group_index
        self.reply_to = found.reply_to
        self.correlation_id = found.correlation_id
        self.eta: datetime | None = found.eta
        self.expires: datetime | None = found.expires
        #: [hard, soft] in seconds, as the message has them.
        self.time_limits = found.timelimit or [None, None]
        self.hostname = context.hostname
        self.delivery_info: dict[str, Any] = context.delivery_info or {}
        self.context = context
        #: The message's headers and the worker's own fields; for protocol 1, the same fields from the body.
        self.request_dict: dict[str, Any] = {
            **message.headers,
            "task": found.task,
            "id": found.id,
            "retries": found.retries,
            "reply_to": found.reply_to,
            "correlation_id": found.correlation_id,
            "hostname": context.hostname,
            "delivery_info": self.delivery_info,
            "properties": message.properties,
        }
        own = found.ignore_result
        self.ignore_result = bool(task.ignore_result if own is None else own)
        #: The verb that a method has asked for; None leaves it to the ack table.
        self.verb_override: Verb | None = None

    # -- what happens ------------------------------------------------------------------------------------

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        """The child ``pid`` starts the task; ``time_accepted`` is of ``time.monotonic``."""
        self.worker_pid = pid
        self.time_start = time.time() - (time.monotonic() - time_accepted)

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """A limit of ``timeout`` seconds has passed.

        A hard one has killed the child; FAILURE is stored by then.
        """
        if soft:
            logger.warning(
                "Soft time limit (%ss) exceeded for %s[%s]", timeout, printable(self.name), printable(self.id)
            )
        else:
            logger.error("Hard time limit (%ss) exceeded for %s[%s]", timeout, printable(self.name), printable(self.id))

    def on_success(self, failed__retval__runtime: tuple[bool, Any, float], **_: Any) -> None:
        """The task has ended, its outcome is stored and its handlers were called.

        The tuple holds whether the task raised, the text of its result or an ``ExceptionInfo``, and the seconds it
        took. Calls :meth:`on_failure` for an exception.
        """
        failed, value, _runtime = failed__retval__runtime
        if failed:
            self.on_failure(value, return_ok=True)

    def on_failure(self, exc_info: ExceptionInfo, send_failed_event: bool = True, return_ok: bool = False) -> None:
        """The task raised, or (``return_ok`` false) its child was lost.

        Calls :meth:`on_retry` for a retry.
        """
        if isinstance(exc_info.exception, Retry):
            self.on_retry(exc_info)
        elif not return_ok:
            logger.error("Task handler raised error: %r", exc_info.exception)

    def on_retry(self, exc_info: ExceptionInfo) -> None:
        """The task has sent itself again."""

    # -- for overriding methods --------------------------------------------------------------------------

    def acknowledge(self) -> None:
        """Acknowledge the message, instead of the ack table's verb."""
        self.verb_override = Verb.ACK

    def reject(self, requeue: bool = False) -> None:
        """Reject or requeue the message, instead of the ack table's verb."""
        self.verb_override = Verb.REQUEUE if requeue else Verb.REJECT

    @property
    def store_errors(self) -> bool:
        """Whether a failure of this run is stored."""
        return not self.ignore_result or bool(self.task.store_errors_even_if_ignored)

    def info(self, safe: bool = False) -> dict[str, Any]:
        """Return the fields that monitors show.

        With ``safe``, the producer's texts instead of the arguments.
        """
        return {
            "id": self.id,
            "name": self.name,
            "args": self.argsrepr if safe else self.args,
            "kwargs": self.kwargsrepr if safe else self.kwargs,
            "type": self.type,
            "hostname": self.hostname,
            "time_start": self.time_start,
            "acknowledged": self.acknowledged,
            "delivery_info": self.delivery_info,
            "worker_pid": self.worker_pid,
        }

    def humaninfo(self) -> str:
        """``name[id]``."""
        return f"{self.name}[{self.id}]"

    def __str__(self) -> str:
        return self.humaninfo()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.humaninfo()} {self.argsrepr} {self.kwargsrepr}>"
