"""The one tree of errors, with Celery's class names.

Every process may import this module; it imports nothing of turbo. ``protocol.faults`` decides under which
module name a class travels on the wire, so that a real Celery client rebuilds its own class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


class TurboError(Exception):
    """Root of every error that turbo raises itself."""


class TurboWarning(UserWarning):
    """Root of the warnings that turbo gives."""


class AlwaysEagerIgnored(TurboWarning):
    """``send_task`` was called while ``task_always_eager`` is set: a name alone cannot be run here."""


class ImproperlyConfigured(TurboError):
    """A setting, option or application cannot be used as given."""


class SecurityError(TurboError):
    """A rule that protects the host was about to be broken."""


class OperationalError(TurboError):
    """The broker or a result store could not be reached, or refused an operation."""


class SerializationError(TurboError):
    """Root of the errors of encoding and decoding."""


class EncodeError(SerializationError):
    """A value cannot be carried by the chosen serializer."""


class DecodeError(SerializationError):
    """Bytes received do not decode."""


class ContentDisallowed(SerializationError):
    """The content type of a message is not among ``accept_content``."""


class TaskError(TurboError):
    """Root of the errors about one task."""


class QueueNotFound(TaskError, KeyError):
    """A queue that is not configured was asked for while ``task_create_missing_queues`` is off."""


class NotRegistered(TaskError, KeyError):
    """The task's name is not in the registry of this process."""

    def __repr__(self) -> str:
        """Celery's text for the same case, since it ends up in logs and results."""
        return f"{str(self.args[0] if self.args else '')!r}"


class AlreadyRegistered(TaskError):
    """Two tasks claim one name."""


class InvalidTaskError(TaskError):
    """A message names a task but its fields cannot be understood."""


class MaxRetriesExceededError(TaskError):
    """``Task.retry`` was called once more than ``max_retries`` allows.

    ``task_args`` and ``task_kwargs`` hold the call that is given up.
    """

    def __init__(self, *args: object, task_args: object = (), task_kwargs: object = None) -> None:
        super().__init__(*args)
        self.task_args = task_args
        self.task_kwargs = {} if task_kwargs is None else task_kwargs


class TaskRevokedError(TaskError):
    """The task was revoked, terminated, or had expired, and so has no result."""


class ChordError(TaskError):
    """A task of a chord's header did not succeed, so that the chord's body never runs."""


class IncompleteStream(TaskError):
    """What was to be gone through has not come to its end: a task's children are known when it has ended."""


class TimeoutError(TaskError):
    """Waiting for a result took longer than asked."""


class TaskPredicate(TurboError):
    """Root of the exceptions by which a body says what shall become of its message."""


class Retry(TaskPredicate):
    """The task was sent again; this attempt ends without a final state.

    Attributes: ``exc`` the cause or None, ``when`` an aware datetime or seconds, ``is_eager``, ``sig``.
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
        """Say when the next attempt is due, for a log line."""
        if isinstance(self.when, (int, float)):
            return f"in {self.when}s"
        return f"at {self.when}"

    def __str__(self) -> str:
        """One line for logs and results."""
        if self.message:
            return self.message
        if self.excs:
            return f"Retry {self.humanize()}: {self.excs}"
        return f"Retry {self.humanize()}"

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by the constructor's arguments, not by ``args``."""
        return self.__class__, (self.message, self.exc, self.when)


class Ignore(TaskPredicate):
    """Acknowledge the message and record no state."""


class Reject(TaskPredicate):
    """Reject the message: to its dead-letter exchange, or back to its queue when ``requeue``."""

    def __init__(self, reason: object = None, requeue: bool = False) -> None:
        self.reason = reason
        self.requeue = requeue
        super().__init__(reason, requeue)

    def __repr__(self) -> str:
        """Name both arguments, since this text is logged."""
        return f"reject requeue={self.requeue}: {self.reason}"


class SoftTimeLimitExceeded(Exception):
    """Raised inside a body that has run past its soft time limit. An ordinary ``Exception``, as in Celery."""

    def __str__(self) -> str:
        """The text that Celery's own class gives."""
        return f"SoftTimeLimitExceeded{self.args}"


class TimeLimitExceeded(Exception):
    """The hard time limit passed and the child running the task was killed."""

    def __str__(self) -> str:
        """The text that Celery's own class gives."""
        return f"TimeLimitExceeded{self.args}"


class WorkerLostError(Exception):
    """The child running the task died before it reported an outcome."""


class Terminated(Exception):
    """The child running the task was ended by a request to terminate it."""


class MemoryLimitExceeded(WorkerLostError):
    """The child running the task grew past the hard memory limit and was killed mid-task."""


class FixupWarning(UserWarning):
    """What an app does for a framework could not be done."""
