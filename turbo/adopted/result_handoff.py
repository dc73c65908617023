"""Leaves results to the master instead of storing them in the child.

The master stores those of all children together.

Celery's Redis backend asks, writes and publishes for every result, in two round trips that the child waits for: several
times the cost of tracing a small task. Where nothing can observe the difference, the document that Celery has encoded
goes into the DONE record instead, and the master writes it before it acknowledges the message.

Two places decide that: the command (:func:`can_be_handed`: Celery's own backend for one plain Redis, with nothing
replaced, and a server that runs scripts), and the child for every task and message (:class:`ResultHandoff`): only a
SUCCESS is left to the master, outside of chords, with no handler or receiver that runs after the result is stored and
might read it. Celery's code stores everything else. It must never change a document's bytes.
"""

from __future__ import annotations

import logging
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from celery import signals, states
from celery.app import trace
from kombu.utils.encoding import ensure_bytes

from turbo.backends.redis.wire import STORE_SCRIPT, task_key_prefix
from turbo.ring import frames

if TYPE_CHECKING:
    from celery import Celery

    from turbo.child.time_limits import SoftLimit

logger = logging.getLogger(__name__)

#: Documents above this size, in bytes, cost the master more than they save the child.
_LARGEST: Final = 65_536
#: Connection options, beyond address and login, that the master may ignore.
_UNIMPORTANT: Final = frozenset({"max_connections", "socket_timeout", "socket_connect_timeout", "driver_info",
                                 "lib_name", "lib_version"})  # fmt: skip
_ADDRESS: Final = frozenset({"host", "port", "db", "username", "password"})
#: Seconds for the server to answer, at the start of a worker.
_PATIENCE: Final = 2.0


def can_be_handed(app: Celery) -> str | None:
    """Return the URL of the Redis where the master may store this app's results.

    None if Celery has to.
    """
    backend = app.backend
    if not is_untouched(backend):
        return None
    given = {name: value for name, value in backend.connparams.items() if value}
    prefix = (app.conf.result_backend_transport_options or {}).get("global_keyprefix") or ""
    if (
        not given.keys() <= _UNIMPORTANT | _ADDRESS
        or backend._ConnectionPool not in (None, backend.redis.ConnectionPool)
        or ensure_bytes(backend.task_keyprefix) != task_key_prefix(prefix)
        or find_spec("hiredis") is None
        or not _runs_scripts(backend)
    ):
        return None
    login = ":".join(quote(str(given[name]), safe="") for name in ("username", "password") if name in given)
    if "username" not in given and login:
        login = f":{login}"
    host = str(given["host"])
    place = f"[{host}]" if ":" in host else host
    return f"redis://{login}{'@' if login else ''}{place}:{given['port']}/{given.get('db', 0)}"


def is_untouched(backend: Any) -> bool:
    """Whether this is Celery's own, unwrapped backend for one Redis.

    No library has wrapped its methods or its client's. Tracing libraries wrap them, some in ``worker_process_init``.
    """
    kind = type(backend)
    if kind.__module__ != "celery.backends.redis" or kind.__name__ != "RedisBackend":
        return False
    client = backend.redis.client
    theirs = [getattr(kind, name) for name in ("mark_as_done", "store_result", "_store_result", "get", "set", "_set")]
    sends = (client.Redis.execute_command, client.Pipeline.execute)
    return (
        not any(name in vars(backend) for name in ("mark_as_done", "store_result", "_store_result", "set"))
        and all(getattr(each, "__globals__", {}).get("__name__", "").startswith("celery.backends.") for each in theirs)
        and all(getattr(each, "__globals__", None) is vars(client) for each in sends)
    )


def _runs_scripts(backend: Any) -> bool:
    """Whether the server loads the script that stores a result.

    Asks over a separate connection.
    """
    patience = {"socket_timeout": _PATIENCE, "socket_connect_timeout": _PATIENCE}
    client = backend._create_client(**{**backend.connparams, **patience})
    try:
        client.script_load(STORE_SCRIPT.decode())
    except (OSError, backend.redis.RedisError) as error:
        logger.info("Children store their results themselves: Redis does not load a script (%r)", error)
        return False
    finally:
        client.connection_pool.disconnect()
    return True


class ResultHandoff:
    """Holds the document of the running task for the master, in one child."""

    __slots__ = ("_awaited", "_given", "_soft", "_store", "_stored_by")

    def __init__(self, app: Celery, soft: SoftLimit) -> None:
        self._soft = soft
        #: Id of the message whose SUCCESS may be left to the master; empty: of none.
        self._awaited = ""
        #: The document, and the call that would have stored it.
        self._given: bytes | None = None
        self._stored_by: tuple[Any, ...] = ()
        backend = app.backend
        self._store = backend._store_result
        backend._store_result = self._take

    def suits(self, task: Any) -> bool:
        """Whether nothing of this task's own runs between storing its result and its end."""
        handlers = ("on_success", "after_return")
        return task.backend is self._store.__self__ and not any(trace.task_has_custom(task, name) for name in handlers)

    def open(self, task_id: str, *, in_chord: bool) -> None:
        """Prepare for a message that the tracer runs next.

        Results of parts of chords are not handed off.
        """
        if not (in_chord or signals.task_success.receivers or signals.task_postrun.receivers):
            self._awaited = task_id

    def _take(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **options: Any
    ) -> Any:
        """Replace the backend's ``_store_result``, which gets an encoded result."""
        if self._given is not None:
            # Code that runs after the success must find it stored.
            self.store_now()
        # A body may store a state under its own id and read it back.
        if state != states.SUCCESS or task_id != self._awaited or self._soft.armed or options:
            return self._store(task_id, result, state, traceback=traceback, request=request, **options)
        backend = self._store.__self__
        meta = backend._get_result_meta(result=result, state=state, traceback=traceback, request=request)
        meta["task_id"] = task_id
        document = ensure_bytes(backend.encode(meta))
        if len(document) > _LARGEST:
            return self._store(task_id, result, state, traceback=traceback, request=request)
        self._given, self._stored_by = document, (task_id, result, state, traceback, request)
        return result

    def store_now(self) -> None:
        """Store the held document by Celery's code: the task ends otherwise than expected."""
        if self._given is not None:
            self._given = None
            self._store(*self._stored_by)

    def close(self, *, succeeded: bool) -> bytes:
        """Return the packed document for the master after the tracer.

        Empty if Celery has stored everything.
        """
        if not succeeded:
            self.store_now()
        document, self._awaited = self._given, ""
        if document is None:
            return b""
        task_id: str = self._stored_by[0]
        self._given, self._stored_by = None, ()
        return frames.pack_store(frames.StoreRequest(task_id, document, True, "", "", "", ""))
