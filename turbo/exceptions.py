"""All exceptions of turbo in one tree, with Celery's class names.

Every process may import this module; it imports nothing of turbo. ``protocol.faults`` decides which module name of a
class is sent, so that a Celery client rebuilds its own class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


class TurboError(Exception):
    """Root of every error that turbo raises itself."""


class TurboWarning(UserWarning):
    """Root of the warnings that turbo issues."""


#: Celery's names of the two roots, for programs that catch them.
CeleryError = TurboError
CeleryWarning = TurboWarning


class AlwaysEagerIgnored(TurboWarning):
    """``send_task`` was called with ``task_always_eager`` set.

    It sends anyway, since a name cannot be run.
    """


class ImproperlyConfigured(TurboError):
    """A setting, option or application cannot be used as given."""


class SecurityError(TurboError):
    """The action is refused because it would endanger the host."""


class OperationalError(TurboError):
    """The broker or a result store could not be reached, or refused an operation."""


class SerializationError(TurboError):
    """Root of the errors of encoding and decoding."""


class EncodeError(SerializationError):
    """The serializer cannot encode a value."""


class DecodeError(SerializationError):
    """Received bytes cannot be decoded."""


class ContentDisallowed(SerializationError):
    """The content type of a message is not among ``accept_content``."""


class MessageStateError(TurboError):
    """A message of a program's own consumer was settled twice."""


class TaskError(TurboError):
    """Root of the errors about one task."""


class QueueNotFound(TaskError, KeyError):
    """A queue is not configured, and ``task_create_missing_queues`` is off."""


class NotRegistered(TaskError, KeyError):
    """The task's name is not in the registry of this process."""

    def __repr__(self) -> str:
        """Return Celery's text, since it is written to logs and results."""
        return f"{str(self.args[0] if self.args else '')!r}"


class AlreadyRegistered(TaskError):
    """Two tasks have the same name."""


class InvalidTaskError(TaskError):
    """A message names a task, but its fields are invalid."""


class MaxRetriesExceededError(TaskError):
    """``Task.retry`` was called after ``max_retries`` retries.

    ``task_args`` and ``task_kwargs`` are the arguments of the task.
    """

    def __init__(self, *args: object, task_args: object = (), task_kwargs: object = None) -> None:
        super().__init__(*args)
        self.task_args = task_args
        self.task_kwargs = {} if task_kwargs is None else task_kwargs


class TaskRevokedError(TaskError):
    """The task has no result because it was revoked or terminated, or has expired."""


class ChordError(TaskError):
    """A chord's body never runs because a task of its header failed."""


class IncompleteStream(TaskError):
    """The tree of results is incomplete: a task that has not ended is in it.

    A task's children are known only after it has ended.
    """


class TimeoutError(TaskError):
    """A result did not arrive within the timeout."""


class TaskPredicate(TurboError):
    """Root of the exceptions by which a task body decides what happens to its message."""


class Retry(TaskPredicate):
    """The task was sent again; this attempt ends without a final state.

    Attributes: ``exc`` is the cause or None, ``when`` the time of the next attempt (an aware datetime, or seconds from
    now), ``is_eager`` whether the task runs in the caller's process, ``sig`` the signature of the next attempt.
    """

    def __init__(
        self,
        message: str | None = None,
        exc: BaseException | None = None,
        when: float | datetime | None = None,
        is_eager: bool = False,
        sig: object = None,
        **_: object,
    ) -> None:
        self.message = message
        self.exc = exc
        self.excs = None if exc is None else repr(exc)
        self.when = when
        self.is_eager = is_eager
        self.sig = sig
        super().__init__(self, exc, when)

    def humanize(self) -> str:
        """Return the time of the next attempt as text for a log line."""
        if isinstance(self.when, (int, float)):
            return f"in {self.when}s"
        return f"at {self.when}"

    def __str__(self) -> str:
        """Return one line for logs and results."""
        if self.message:
            return self.message
        if self.excs:
            return f"Retry {self.humanize()}: {self.excs}"
        return f"Retry {self.humanize()}"

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by the constructor's arguments, not by ``args``."""
        return self.__class__, (self.message, self.exc, self.when)


class Ignore(TaskPredicate):
    """The message is acknowledged and no state is stored."""


class Reject(TaskPredicate):
    """The message is rejected: dead-lettered, or requeued with ``requeue``."""

    def __init__(self, reason: object = None, requeue: bool = False) -> None:
        self.reason = reason
        self.requeue = requeue
        super().__init__(reason, requeue)

    def __repr__(self) -> str:
        """Return a text with both arguments for the log."""
        return f"reject requeue={self.requeue}: {self.reason}"


class SoftTimeLimitExceeded(Exception):
    """Raised inside a task body that exceeds its soft time limit.

    An ordinary ``Exception``, as in Celery.
    """

    def __str__(self) -> str:
        """The text that Celery's own class gives."""
        return f"SoftTimeLimitExceeded{self.args}"


class TimeLimitExceeded(Exception):
    """The task exceeded its hard time limit, and its child was killed."""

    def __str__(self) -> str:
        """The text that Celery's own class gives."""
        return f"TimeLimitExceeded{self.args}"


class WorkerLostError(Exception):
    """The task's child died before it reported an outcome."""


class Terminated(Exception):
    """The task's child was ended by a request to terminate the task."""


class MemoryLimitExceeded(WorkerLostError):
    """The task's child exceeded the hard memory limit and was killed during the task."""


class FixupWarning(UserWarning):
    """The support for a framework (a fixup) could not be set up."""
