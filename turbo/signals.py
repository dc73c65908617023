"""Celery's signals: events of tasks, workers and processes.

Every process may import this module; it imports nothing of turbo. Names and arguments are Celery's. A comment at each
signal gives its sender and process. A program connects receivers at import, so that the worker and its children, which
are forked later, have all of them. A receiver's error is logged and not raised. Senders on a hot path check
``receivers`` first, which always is the same list object: a signal without receivers costs one check.
"""

from __future__ import annotations

import inspect
import logging
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    Receiver = Callable[..., Any]

__all__ = [
    "Signal", "after_setup_logger", "after_setup_task_logger", "after_task_publish", "beat_embedded_init", "beat_init",
    "before_task_publish", "celeryd_after_setup", "celeryd_init", "eventlet_pool_apply", "eventlet_pool_postshutdown",
    "eventlet_pool_preshutdown", "eventlet_pool_started", "heartbeat_sent", "import_modules", "setup_logging",
    "task_failure", "task_internal_error", "task_postrun", "task_prerun", "task_received", "task_rejected",
    "task_retry", "task_revoked", "task_sent", "task_success", "task_unknown", "user_preload_options",
    "worker_before_create_process", "worker_init", "worker_process_init", "worker_process_shutdown", "worker_ready",
    "worker_shutdown", "worker_shutting_down",
]  # fmt: skip

logger = logging.getLogger("celery.utils.dispatch.signal")

#: Pauses in seconds before a receiver with ``retry`` is called again: the first, the increase, the longest.
_FIRST_PAUSE: Final = 2.0
_STEP: Final = 2.0
_LONGEST_PAUSE: Final = 30.0
#: Attribute of the wrapper of a receiver with ``retry``: the receiver itself.
_WRAPPED: Final = "__turbo_receiver__"


class _Connection:
    """One receiver of a signal, and the sender to which it is limited."""

    __slots__ = ("key", "receiver", "sender", "weak")

    def __init__(self, key: Hashable, receiver: Any, sender: Any, weak: bool) -> None:
        self.key = key
        #: The receiver, or a weak reference to it.
        self.receiver = receiver
        self.weak = weak
        #: The sender's identity, or None for any sender. A proxy is resolved at each sending, since its object may not
        #: exist yet.
        self.sender = sender if _is_proxy(sender) else _identity(sender)

    def found(self) -> Receiver | None:
        """Return the receiver, or None if it was garbage-collected."""
        found: Receiver | None = self.receiver() if self.weak else self.receiver
        return found

    def accepts(self, sender: Hashable) -> bool:
        """Return whether the receiver is called for the sender of this identity."""
        own = self.sender
        return own is None or (_identity(own) if _is_proxy(own) else own) == sender


class Signal:
    """An event, and the receivers that are called when it happens."""

    def __init__(
        self, providing_args: Iterable[str] | None = None, use_caching: bool = False, name: str | None = None
    ) -> None:
        """``providing_args`` documents the arguments of :meth:`send`.

        ``use_caching`` has no effect.
        """
        self.name = name
        self.providing_args = set(providing_args or ())
        #: The connected receivers. The list object is never replaced.
        self.receivers: list[_Connection] = []
        self._lock = threading.RLock()

    def connect(self, *args: Any, **options: Any) -> Any:
        """Call ``receiver(signal=…, sender=…, **named)`` whenever the signal is sent.

        The arguments are ``connect(receiver, sender=None, weak=True, dispatch_uid=None, retry=False)``. Without a
        receiver it is a decorator. Returns the receiver. ``sender`` limits the receiver to that
        sender. ``weak``: the signal keeps only a weak reference to the receiver. A second receiver with the
        same ``dispatch_uid`` and sender is not connected. ``retry``: a receiver that raises is called again,
        with growing pauses, until it succeeds; ``weak`` is then ignored. Raises ValueError for a receiver
        without ``**kwargs``, and TypeError if it is not callable.
        """
        if args and callable(args[0]):
            return self._connect(args[0], *args[1:], **options)
        return lambda receiver: self._connect(receiver, *args, **options)

    def disconnect(
        self, receiver: Receiver | None = None, sender: Any = None, weak: Any = None, dispatch_uid: Hashable = None
    ) -> bool:
        """Disconnect the receiver with the same function or uid, and sender.

        The uid is ``dispatch_uid``. Returns whether it was connected. ``weak`` has no effect.
        """
        key = _key(receiver, sender, dispatch_uid)
        with self._lock:
            for connection in self.receivers:
                if connection.key == key:
                    self.receivers.remove(connection)
                    return True
        return False

    def has_listeners(self, sender: Any = None) -> bool:
        """Return whether any receiver would be called for ``sender``."""
        return bool(self._receivers_for(sender))

    def send(self, sender: Any, **named: Any) -> list[tuple[Receiver, Any]]:
        """Call every receiver that is connected for ``sender``.

        Returns (receiver, result or exception) pairs.
        """
        if not self.receivers:
            return []
        responses: list[tuple[Receiver, Any]] = []
        for receiver in self._receivers_for(sender):
            try:
                responses.append((receiver, receiver(signal=self, sender=sender, **named)))
            except Exception as error:
                logger.exception("Signal handler %r raised: %r", receiver, error)
                responses.append((receiver, error))
        return responses

    send_robust = send

    def __repr__(self) -> str:
        return f"<Signal: {self.name} providing_args={self.providing_args!r}>"

    # -- inside ------------------------------------------------------------------------------------------

    def _connect(
        self,
        receiver: Receiver,
        sender: Any = None,
        weak: bool = True,
        dispatch_uid: Hashable = None,
        retry: bool = False,
    ) -> Receiver:
        if not callable(receiver):
            raise TypeError("a receiver of a signal must be callable")
        if not _takes_keywords(receiver):
            raise ValueError("a receiver of a signal must accept keyword arguments")
        key = _key(receiver, sender, dispatch_uid)
        target: Any = _retrying(receiver) if retry else receiver
        weak = weak and not retry
        if weak:
            make = weakref.WeakMethod if hasattr(receiver, "__func__") else weakref.ref
            target = make(receiver, self._forget)
        with self._lock:
            self.receivers[:] = [each for each in self.receivers if each.found() is not None]
            if all(each.key != key for each in self.receivers):
                self.receivers.append(_Connection(key, target, sender, weak))
        return receiver

    def _forget(self, reference: Any) -> None:
        """Remove a receiver that was garbage-collected.

        The garbage collector can call this anywhere, also while this thread holds the lock, so it takes no lock.
        """
        for connection in tuple(self.receivers):
            if connection.receiver is reference:
                try:
                    self.receivers.remove(connection)
                except ValueError:
                    return  # another thread was faster

    def _receivers_for(self, sender: Any) -> list[Receiver]:
        identity = _identity(sender)
        found = [each.found() for each in tuple(self.receivers) if each.accepts(identity)]
        return [receiver for receiver in found if receiver is not None]


def _is_proxy(target: Any) -> bool:
    return hasattr(type(target), "_get_current_object")


def _identity(target: Any) -> Hashable:
    """Return a key that is equal for the same receiver or sender.

    This is the text of a string, else the object's identity.
    """
    if target is None or isinstance(target, (str, bytes)):
        return target
    if _is_proxy(target):
        return _identity(target._get_current_object())  # noqa: SLF001 - a proxy has no other way
    if hasattr(target, "__func__"):
        return id(getattr(target, "__self__", None)), id(target.__func__)
    return id(target)


def _key(receiver: Any, sender: Any, dispatch_uid: Hashable) -> Hashable:
    own = dispatch_uid or _identity(getattr(receiver, _WRAPPED, receiver))
    # The proxy itself, not its object, which may not exist yet.
    return own, id(sender) if _is_proxy(sender) else _identity(sender)


def _takes_keywords(receiver: Receiver) -> bool:
    try:
        parameters = inspect.signature(receiver).parameters.values()
    except (TypeError, ValueError):
        return True  # a built-in function without a signature
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


def _retrying(receiver: Receiver) -> Receiver:
    """Return a function that calls ``receiver``, with pauses, until it does not raise."""

    def again(*args: Any, **kwargs: Any) -> Any:
        pause = _FIRST_PAUSE
        while True:
            try:
                return receiver(*args, **kwargs)
            except Exception:
                logger.exception("Signal handler %r raised; trying again in %g s", receiver, pause)
            time.sleep(pause)
            pause = min(pause + _STEP, _LONGEST_PAUSE)

    setattr(again, _WRAPPED, receiver)
    return again


def _signal(name: str, *arguments: str) -> Signal:
    return Signal(arguments, name=name)


# -- tasks: sent in the process that publishes one ---------------------------------------------------------

#: The sender is the task's name. Receivers may change body, headers and properties.
before_task_publish = _signal(
    "before_task_publish", "body", "exchange", "routing_key", "headers", "properties", "declare", "retry_policy"
)
after_task_publish = _signal("after_task_publish", "body", "exchange", "routing_key", "headers")
#: Never sent; kept for old programs.
task_sent = _signal("task_sent", "task_id", "task", "args", "kwargs", "eta", "taskset")

# -- tasks: sent in the child that runs one; the sender is the task ----------------------------------------

task_prerun = _signal("task_prerun", "task_id", "task", "args", "kwargs")
task_postrun = _signal("task_postrun", "task_id", "task", "args", "kwargs", "retval", "state")
task_success = _signal("task_success", "result", "runtime")
task_retry = _signal("task_retry", "request", "reason", "einfo")
#: Sent in the master for a task whose child died.
task_failure = _signal("task_failure", "task_id", "exception", "args", "kwargs", "traceback", "einfo")
task_internal_error = _signal(
    "task_internal_error", "task_id", "args", "kwargs", "request", "exception", "traceback", "einfo"
)

# -- tasks: sent in the master -----------------------------------------------------------------------------

task_received = _signal("task_received", "request")
task_revoked = _signal("task_revoked", "request", "terminated", "signum", "expired")
task_rejected = _signal("task_rejected", "message", "exc")
task_unknown = _signal("task_unknown", "message", "exc", "name", "id")

# -- the worker: in its command, before anything is forked --------------------------------------------------

#: The sender of both is the worker's node name.
celeryd_init = _signal("celeryd_init", "instance", "conf", "options")
celeryd_after_setup = _signal("celeryd_after_setup", "instance", "conf")
import_modules = _signal("import_modules")
worker_init = _signal("worker_init")
setup_logging = _signal("setup_logging", "loglevel", "logfile", "format", "colorize")
after_setup_logger = _signal("after_setup_logger", "logger", "loglevel", "logfile", "format", "colorize")
after_setup_task_logger = _signal("after_setup_task_logger", "logger", "loglevel", "logfile", "format", "colorize")

# -- the worker: in the master, and in each child -----------------------------------------------------------

worker_ready = _signal("worker_ready")
worker_shutting_down = _signal("worker_shutting_down", "sig", "how", "exitcode")
worker_shutdown = _signal("worker_shutdown")
#: In each child, before its first task and after its last.
worker_process_init = _signal("worker_process_init")
worker_process_shutdown = _signal("worker_process_shutdown", "pid", "exitcode")

# -- beat, in its process; the sender is the service ------------------------------------------------------

beat_init = _signal("beat_init")
#: Beside a worker only, after ``beat_init``.
beat_embedded_init = _signal("beat_embedded_init")

# -- never sent by turbo; defined because programs import them ----------------------------------------------

#: Not sent, because the process that forks children runs none of the program's code.
worker_before_create_process = _signal("worker_before_create_process")
heartbeat_sent = _signal("heartbeat_sent")
eventlet_pool_started = _signal("eventlet_pool_started")
eventlet_pool_preshutdown = _signal("eventlet_pool_preshutdown")
eventlet_pool_postshutdown = _signal("eventlet_pool_postshutdown")
eventlet_pool_apply = _signal("eventlet_pool_apply", "target", "args", "kwargs")
user_preload_options = _signal("user_preload_options", "app", "options")
