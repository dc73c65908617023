"""Exceptions as documents, so that a client in another process, Celery's or ours, raises the same class.

Before it: what a task raised, or what the master decided. After it: ``result_meta``; on the way back, ``result``.
Pure. Reading a document never imports a module and calls nothing but exception classes that are already loaded:
documents come from a store that others may write to (CVE-2021-23727 was that any callable could be named).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from turbo import exceptions
from turbo.exceptions import EncodeError
from turbo.protocol.saferepr import clean, shown
from turbo.protocol.tagged_json import dumps

if TYPE_CHECKING:
    from collections.abc import Mapping

_CELERY: Final = "celery.exceptions"
_BILLIARD: Final = "billiard.exceptions"
_KOMBU: Final = "kombu.exceptions"

#: Our class -> the module and name under which Celery's clients know it.
_WIRE_NAMES: Final[dict[type[BaseException], tuple[str, str]]] = {
    **{
        cls: (_CELERY, cls.__name__)
        for cls in (
            exceptions.ImproperlyConfigured, exceptions.SecurityError, exceptions.TaskError,
            exceptions.QueueNotFound, exceptions.NotRegistered, exceptions.AlreadyRegistered,
            exceptions.InvalidTaskError, exceptions.MaxRetriesExceededError, exceptions.TaskRevokedError,
            exceptions.IncompleteStream, exceptions.TimeoutError, exceptions.TaskPredicate, exceptions.Retry,
            exceptions.Ignore,
            exceptions.Reject, exceptions.ChordError,
        )
    },
    **{
        cls: (_BILLIARD, cls.__name__)
        for cls in (
            exceptions.SoftTimeLimitExceeded, exceptions.TimeLimitExceeded, exceptions.WorkerLostError,
            exceptions.Terminated,
        )
    },
    # Celery has no such class; a lost worker is what its clients can understand.
    exceptions.MemoryLimitExceeded: (_BILLIARD, "WorkerLostError"),
    **{
        cls: (_KOMBU, cls.__name__)
        for cls in (
            exceptions.OperationalError, exceptions.SerializationError, exceptions.EncodeError,
            exceptions.DecodeError, exceptions.ContentDisallowed,
        )
    },
}  # fmt: skip

#: The way back, for processes that do not have those packages. celery.exceptions offers billiard's names too.
_OURS: Final[dict[tuple[str, str], type[BaseException]]] = {
    place: cls for cls, place in _WIRE_NAMES.items() if cls is not exceptions.MemoryLimitExceeded
}
_OURS.update({(_CELERY, name): cls for (module, name), cls in list(_OURS.items()) if module == _BILLIARD})

_PLAIN: Final = frozenset({str, int, float, bool, type(None)})
_LONGEST_REPR: Final = 4096
#: A stranger's document names classes; what they may be called is bounded.
_LONGEST_NAME: Final = 255


def to_wire(exc: BaseException) -> dict[str, Any]:
    """Return the document of an exception: its class, its module and its arguments.

    Arguments that JSON cannot carry are replaced by their repr, so the document can always be encoded.
    """
    cls = type(exc)
    module, name = _WIRE_NAMES.get(cls) or (cls.__module__, cls.__qualname__)
    return {"exc_type": name, "exc_message": [_carried(arg) for arg in exc.args], "exc_module": module}


def _carried(arg: object) -> object:
    if type(arg) in _PLAIN and not isinstance(arg, str):
        return arg
    try:
        dumps(arg)
    except EncodeError:
        return _described(arg)
    return arg


def _described(value: object) -> str:
    return clean(shown(value), _LONGEST_REPR)


def from_wire(doc: Mapping[str, Any]) -> BaseException:
    """Rebuild the exception that a document describes. Never raises, whatever the document holds.

    A class is only looked up in modules that are loaded, and only a subclass of ``BaseException`` is made an instance
    of. Celery's own classes become ours where Celery is not loaded. For every other name an exception class of that
    name is made up, as Celery does, so that logs and ``except Exception`` keep working.
    """
    name = doc.get("exc_type")
    module = doc.get("exc_module")
    message = doc.get("exc_message", "")
    if not isinstance(name, str) or not name:
        return exceptions.TaskError(f"an exception document without exc_type: {_described(doc)}")
    args = tuple(message) if isinstance(message, (list, tuple)) else (message,)
    cls = _loaded(module, name) if isinstance(module, str) else None
    if cls is None:
        cls = _made_up(name, module if isinstance(module, str) else __name__)
    try:
        rebuilt = cls(*args)
    except Exception:  # noqa: BLE001 - a constructor with other arguments than the exception has
        return Exception(f"{cls!r}({_described(message)})")
    return rebuilt if isinstance(rebuilt, BaseException) else Exception(f"{cls!r}({_described(message)})")


def _loaded(module: str, name: str) -> type[BaseException] | None:
    """Find a class by its qualified name without running anything: no import, no module or class hooks."""
    found: object = sys.modules.get(module)
    if found is None:
        return _OURS.get((module, name))
    for part in name.split("."):
        try:
            found = vars(found).get(part)
        except TypeError:
            return None
    if isinstance(found, type) and issubclass(found, BaseException):
        return found
    return _OURS.get((module, name))


def _made_up(name: str, module: str) -> type[BaseException]:
    plain = clean(name.rpartition(".")[2], _LONGEST_NAME).replace("\0", "") or "RemoteError"
    return type(plain, (Exception,), {"__module__": clean(module, _LONGEST_NAME), "__qualname__": plain})
