"""Exceptions in their wire form: ``{"exc_type", "exc_message", "exc_module"}``.

Place: in the child and the master before a failure is stored, in the client after it is read. Readers rebuild the
class from its module and name, so turbo's own errors travel under the names that Celery's have: limits and lost
workers under ``billiard.exceptions``, encoding under ``kombu.exceptions``, the rest under ``celery.exceptions``.
None of those packages is needed to write or read them.

Reading is hostile territory: whoever may write results could name any attribute. Only modules that are already
loaded are looked at, only classes derived from BaseException are used, and everything else becomes a class made
for the occasion.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Mapping
from typing import Any, Final

from turbo import exceptions
from turbo.exceptions import EncodeError
from turbo.protocol import tagged_json

_BILLIARD: Final = "billiard.exceptions"
_CELERY: Final = "celery.exceptions"
_KOMBU: Final = "kombu.exceptions"

_MODULES: Final = {
    "SoftTimeLimitExceeded": _BILLIARD,
    "TimeLimitExceeded": _BILLIARD,
    "WorkerLostError": _BILLIARD,
    "Terminated": _BILLIARD,
    "EncodeError": _KOMBU,
    "DecodeError": _KOMBU,
    "ContentDisallowed": _KOMBU,
    "SerializationError": _KOMBU,
    "OperationalError": _KOMBU,
    "ImproperlyConfigured": _CELERY,
    "SecurityError": _CELERY,
    "QueueNotFound": _CELERY,
    "NotRegistered": _CELERY,
    "AlreadyRegistered": _CELERY,
    "InvalidTaskError": _CELERY,
    "MaxRetriesExceededError": _CELERY,
    "TaskRevokedError": _CELERY,
    "TimeoutError": _CELERY,
    "Retry": _CELERY,
    "Ignore": _CELERY,
    "Reject": _CELERY,
    "TaskPredicate": _CELERY,
    "TaskError": _CELERY,
}

#: Class -> (exc_type, exc_module) for turbo's own errors.
_OUT: Final[dict[type[BaseException], tuple[str, str]]] = {
    getattr(exceptions, name): (name, module) for name, module in _MODULES.items()
}
# A worker lost is what it is to every reader that does not know our finer distinction.
_OUT[exceptions.MemoryLimitExceeded] = ("WorkerLostError", _BILLIARD)
_IN: Final[dict[tuple[str, str], type[BaseException]]] = {
    (module, name): getattr(exceptions, name) for name, module in _MODULES.items()
}


def to_wire(error: BaseException) -> dict[str, Any]:
    """The wire form of an exception; arguments that cannot be encoded become their repr."""
    name, module = _OUT.get(type(error)) or (type(error).__qualname__, type(error).__module__)
    return {"exc_type": name, "exc_message": _arguments(error), "exc_module": module}


def _arguments(error: BaseException) -> list[Any]:
    args = error.args
    try:
        tagged_json.dumps(args)
    except EncodeError:
        return [_encodable(arg) for arg in args]
    return list(args)


def _encodable(value: object) -> object:
    try:
        tagged_json.dumps(value)
    except EncodeError:
        return safe_repr(value)
    return value


def safe_repr(value: object) -> str:
    """The repr of anything, also of objects whose repr raises."""
    try:
        return repr(value)
    except Exception as error:  # a user's __repr__ may raise anything
        return f"<{type(value).__name__} whose repr raised {type(error).__name__}>"


def from_wire(document: object) -> BaseException:
    """Rebuild the exception of a stored document; never imports, never calls what is no exception class."""
    if isinstance(document, BaseException):
        return document
    if not isinstance(document, Mapping):
        return Exception(document)
    name = str(document.get("exc_type") or "Exception")
    module = str(document.get("exc_module") or "builtins")
    raw = document.get("exc_message")
    args = tuple(raw) if isinstance(raw, (list, tuple)) else (raw,)
    found = _find(module, name)
    if found is not None:
        try:
            return found(*args)
        except Exception:  # noqa: BLE001 - a constructor with other parameters: fall back to a class of its name
            found = None
    made: type[Exception] = type(name.rpartition(".")[2], (Exception,), {"__module__": module})
    return made(*args)


def _find(module: str, name: str) -> type[BaseException] | None:
    """The class that a document names, if it is an exception class of a loaded module."""
    ours = _IN.get((module, name))
    if ours is not None:
        return ours
    target: Any = builtins if module in ("builtins", "exceptions", "__builtin__") else sys.modules.get(module)
    for part in name.split("."):
        target = getattr(target, part, None)
    if isinstance(target, type) and issubclass(target, BaseException):
        return target
    return None
