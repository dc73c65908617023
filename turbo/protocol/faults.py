"""Converts exceptions to documents and back.

A client of Celery or turbo raises the same class as the task did. Before it: an exception that a task raised or the
master chose. After it: ``result_meta``; when reading, ``result``. Pure. Reading a document must never import a module,
and calls only exception classes that are already loaded: others may write to the store (in CVE-2021-23727 a document
could name any callable).
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

#: turbo's class -> the module and name that Celery's clients expect.
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
    # Celery has no such class; its clients understand WorkerLostError.
    exceptions.MemoryLimitExceeded: (_BILLIARD, "WorkerLostError"),
    **{
        cls: (_KOMBU, cls.__name__)
        for cls in (
            exceptions.OperationalError, exceptions.SerializationError, exceptions.EncodeError,
            exceptions.DecodeError, exceptions.ContentDisallowed,
        )
    },
}  # fmt: skip

#: The reverse, for processes without those packages. celery.exceptions has billiard's names too.
_OURS: Final[dict[tuple[str, str], type[BaseException]]] = {
    place: cls for cls, place in _WIRE_NAMES.items() if cls is not exceptions.MemoryLimitExceeded
}
_OURS.update({(_CELERY, name): cls for (module, name), cls in list(_OURS.items()) if module == _BILLIARD})

_PLAIN: Final = frozenset({str, int, float, bool, type(None)})
_LONGEST_REPR: Final = 4096
#: Most characters of a class or module name from a document, which anybody may have written.
_LONGEST_NAME: Final = 255


def to_wire(exc: BaseException) -> dict[str, Any]:
    """Return the document of an exception: its class, its module and its arguments.

    Arguments that JSON cannot represent are replaced by their repr, so the document can always be encoded.
    """
    cls = type(exc)
    module, name = _WIRE_NAMES.get(cls) or (cls.__module__, cls.__qualname__)
    return {"exc_type": name, "exc_message": [_encodable(arg) for arg in exc.args], "exc_module": module}


def _encodable(arg: object) -> object:
    if type(arg) in _PLAIN and not isinstance(arg, str):
        return arg
    try:
        dumps(arg)
    except EncodeError:
        return _short_repr(arg)
    return arg


def _short_repr(value: object) -> str:
    return clean(shown(value), _LONGEST_REPR)


def from_wire(doc: Mapping[str, Any]) -> BaseException:
    """Return the exception that a document describes.

    Never raises, whatever the document contains. It looks for the class only in loaded modules, and instantiates only a
    subclass of ``BaseException``. Without Celery, its classes become turbo's. For any other name it creates an
    exception class of that name, as Celery does, so that logs and ``except Exception`` work.
    """
    name = doc.get("exc_type")
    module = doc.get("exc_module")
    message = doc.get("exc_message", "")
    if not isinstance(name, str) or not name:
        return exceptions.TaskError(f"an exception document without exc_type: {_short_repr(doc)}")
    args = tuple(message) if isinstance(message, (list, tuple)) else (message,)
    cls = _loaded(module, name) if isinstance(module, str) else None
    if cls is None:
        cls = _create_class(name, module if isinstance(module, str) else __name__)
    try:
        rebuilt = cls(*args)
    except Exception:  # noqa: BLE001 - the constructor may take other arguments than ``args``
        return Exception(f"{cls!r}({_short_repr(message)})")
    return rebuilt if isinstance(rebuilt, BaseException) else Exception(f"{cls!r}({_short_repr(message)})")


def _loaded(module: str, name: str) -> type[BaseException] | None:
    """Find a class by its qualified name without running code.

    Nothing is imported, and no module or class hook runs.
    """
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


def _create_class(name: str, module: str) -> type[BaseException]:
    plain = clean(name.rpartition(".")[2], _LONGEST_NAME).replace("\0", "") or "RemoteError"
    return type(plain, (Exception,), {"__module__": clean(module, _LONGEST_NAME), "__qualname__": plain})
