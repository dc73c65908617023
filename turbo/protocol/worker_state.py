"""Reads and writes what a worker remembers between two runs.

That is revoked ids and the logical clock.

Used by ``control.state_file``. turbo's own form is JSON. Celery's is pickled; of that only what a Celery worker writes
is rebuilt, so that no file can run code. Pure.
"""

from __future__ import annotations

import io
import json
import pickle
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_VERSION: Final = 1
#: The most bytes of ids: those of a million.
_LARGEST: Final = 64 * 1024 * 1024


class StateError(ValueError):
    """The bytes are no state of a worker."""


@dataclass(frozen=True, slots=True)
class WorkerState:
    """Revoked ids, the oldest first, and the logical clock."""

    revoked: tuple[str, ...] = ()
    clock: int = 0


def dump(state: WorkerState) -> bytes:
    """Return turbo's form."""
    return json.dumps({"version": _VERSION, "clock": state.clock, "revoked": state.revoked}).encode()


def load(data: bytes) -> WorkerState:
    """Read turbo's form. Raises StateError."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise StateError(str(error)) from None
    if not isinstance(found, dict) or found.get("version") != _VERSION:
        raise StateError(f"not a state of version {_VERSION}")
    return _checked(found.get("revoked"), found.get("clock"))


def load_celerys(entries: Mapping[str, bytes]) -> WorkerState:
    """Read the entries of the file that Celery keeps by ``shelve``, as bytes.

    Raises StateError.
    """
    try:
        clock = _unpickled(entries["clock"]) if "clock" in entries else 0
        ids: Any = ()
        if "zrevoked" in entries:
            packed = zlib.decompressobj()
            ids = _unpickled(packed.decompress(_unpickled(entries["zrevoked"]), _LARGEST))
    except StateError:
        raise
    except Exception as error:  # noqa: BLE001 - broken pickles raise errors of every kind
        raise StateError(f"{type(error).__name__}: {error}") from None
    return _checked(list(ids) if isinstance(ids, (list, tuple, dict)) else ids, clock)


def _checked(revoked: object, clock: object) -> WorkerState:
    if not isinstance(revoked, (list, tuple)) or not all(isinstance(each, str) for each in revoked):
        raise StateError("the revoked ids are no list of texts")
    if isinstance(clock, bool) or not isinstance(clock, int) or clock < 0:
        raise StateError("the clock is no number")
    return WorkerState(tuple(revoked), clock)


def _unpickled(data: bytes) -> Any:
    return _OfCelerysState(io.BytesIO(data)).load()


class _OfCelerysState(pickle.Unpickler):
    """Rebuilds plain values, and Celery's set of ids as a list."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("celery.utils.collections", "LimitedSet"):
            return _ids_of_set
        raise StateError(f"{module}.{name} is not part of a state")


def _ids_of_set(_most: object, _expires: object, times: Mapping[str, object], *_: object) -> list[str]:
    return list(times)
