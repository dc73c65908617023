"""Reads results from a database in a client, by polling.

Before it: rows stored by a worker, turbo's or Celery's. After it: ``result.async_result``. Runs in clients, and in a
child whose task waits for another. A waiter asks for the state only, at pauses that grow to the caller's ``interval``,
and reads the whole row once, when the task has ended. Only ``store_result`` and the methods about groups write.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from turbo.backends.called import CalledByPrograms
from turbo.backends.compressed import LIMIT, open_document
from turbo.backends.reader import Meta, pending
from turbo.backends.sql.database import Database, reason_of, trouble_of
from turbo.backends.sql.poller import SHORTEST_PAUSE, Poller, next_pause
from turbo.backends.sql.upsert import upsert, values_of
from turbo.backends.url import redact_backend_url
from turbo.backends.writer_thread import Trouble
from turbo.exceptions import ContentDisallowed, DecodeError, OperationalError, TimeoutError
from turbo.policy.restarts import reconnect_delay
from turbo.protocol.content import decode, encode
from turbo.protocol.faults import to_wire
from turbo.protocol.ids import text_id
from turbo.protocol.result_meta import build_meta, extended, stored_form
from turbo.protocol.result_row import row_of
from turbo.states import READY_STATES, SUCCESS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from turbo.amqp.topology import Queue
    from turbo.backends.reader_settings import ReaderSettings

logger = logging.getLogger(__name__)

_PICKLE: Final = "application/x-python-serialize"
#: First bytes of pickles of protocols 2 to 5.
_PICKLED: Final = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
#: Attempts of one operation, for a connection that was lost since its last use.
_TRIES: Final = 3


class SqlReader(CalledByPrograms):
    """Reads ``celery_taskmeta``. Thread-safe and fork-safe."""

    #: No process counts the tasks of a chord in a database.
    chords = None

    def __init__(self, url: str, settings: ReaderSettings) -> None:
        self._url = url
        self._settings = settings
        self._database = Database(url, settings.sql)
        self._poller = Poller(self._ended, self.get_task_meta)
        self._lock = threading.Lock()
        self.groups = SqlGroups(self._ask, self._database, settings, self._decode)

    # -- the Protocol ----------------------------------------------------------------------------------------

    def get_task_meta(self, task_id: str, cache: bool = True) -> Meta:
        """Return the stored document, or a PENDING one if there is none.

        Raises ``OperationalError``.
        """
        task_id = text_id(task_id)
        table = self._database.tables.task
        query = sa.select(*(column for column in table.c if column.name != "id")).where(table.c.task_id == task_id)
        found = self._ask(lambda connection: connection.execute(query).mappings().first())
        return pending() if found is None else self._document(found)

    def wait_for(
        self,
        task_id: str,
        *,
        timeout: float | None = None,
        interval: float = 0.5,
        on_interval: Callable[[], object] | None = None,
        on_message: Callable[[Meta], object] | None = None,
    ) -> Meta:
        """Wait until the state is final and return the document.

        ``on_message`` is called with the documents that are seen. Tries again while the database cannot be reached.
        Raises ``TimeoutError``.
        """
        task_id = text_id(task_id)
        deadline = None if timeout is None else time.monotonic() + timeout
        pause, failures = SHORTEST_PAUSE, 0
        seen: str | None = None
        while True:
            try:
                state = self._state(task_id)
                if state is not None and (state in READY_STATES or (on_message is not None and state != seen)):
                    seen, meta = state, self.get_task_meta(task_id)
                    if on_message is not None:
                        on_message(meta)
                    if meta["status"] in READY_STATES:
                        return meta
                pause, failures = next_pause(pause, max(interval, SHORTEST_PAUSE)), 0
            except OperationalError as error:
                failures += 1
                pause = reconnect_delay(failures, random.random())
                logger.warning(
                    "The database failed while waiting for the result of task %s; trying again: %s", task_id, error
                )
            if on_interval is not None:
                on_interval()
            if deadline is not None:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError("The operation timed out.")
                pause = min(pause, left)
            time.sleep(pause)

    def watch(self, task_id: str, found: Callable[[Meta], object]) -> Callable[[], None]:
        """Call ``found`` once with the final document, in the polling thread."""
        return self._poller.watch(text_id(task_id), found)

    def forget(self, task_id: str) -> None:
        """Delete the row."""
        table = self._database.tables.task
        self._ask(lambda connection: connection.execute(sa.delete(table).where(table.c.task_id == text_id(task_id))))

    def store_result(
        self, task_id: str, result: object, state: str, traceback: str | None = None, request: Any = None
    ) -> None:
        """Store a document, for states that are set outside a worker.

        A SUCCESS is replaced by a SUCCESS only.
        """
        settings = self._settings
        if isinstance(result, BaseException) and settings.serializer != "pickle":
            result = to_wire(result)
        done = datetime.now(UTC).isoformat() if state in READY_STATES else None
        more = None
        if settings.extended and getattr(request, "task", None):
            queue = (getattr(request, "delivery_info", None) or {}).get("routing_key")
            more = extended(request, getattr(request, "hostname", None) or "", queue)
        meta = build_meta(
            text_id(task_id), state, stored_form(result, settings.serializer), traceback, date_done=done,
            children=[child.as_tuple() for child in getattr(request, "children", None) or ()], extended=more,
        )  # fmt: skip
        values = values_of(text_id(task_id), row_of(meta, settings.serializer), extended=settings.sql.extended)
        table = self._database.tables.task
        self._ask(lambda connection: upsert(connection, table, [values], guarded=state != SUCCESS))

    def cleanup(self) -> None:
        """Delete the rows that are older than ``result_expires``.

        ``celery.backend_cleanup`` calls it.
        """
        expires = self._settings.expires
        if not expires or expires < 0:
            return
        before = (datetime.now(UTC) - timedelta(seconds=expires)).replace(tzinfo=None)

        def delete(connection: sa.Connection) -> None:
            for table in (self._database.tables.task, self._database.tables.group):
                connection.execute(sa.delete(table).where(table.c.date_done < before))

        self._ask(delete)

    def reply_queue(self, name: str) -> Queue | None:
        """Return None: results are not sent through the broker."""
        return None

    def as_uri(self, include_password: bool = False) -> str:
        """Return the URL; the password is replaced by ``**`` unless ``include_password``."""
        return self._url if include_password else redact_backend_url(self._url)

    def close(self) -> None:
        """Close this process's connections and end its polling thread."""
        with self._lock:
            poller, self._poller = self._poller, Poller(self._ended, self.get_task_meta)
        poller.close()
        self._database.close()

    # -- inside ----------------------------------------------------------------------------------------------

    def _state(self, task_id: str) -> str | None:
        table = self._database.tables.task
        query = sa.select(table.c.status).where(table.c.task_id == task_id)
        found: str | None = self._ask(lambda connection: connection.execute(query).scalar())
        return found

    def _ended(self, ids: Sequence[str]) -> list[str]:
        table = self._database.tables.task
        query = sa.select(table.c.task_id).where(table.c.task_id.in_(ids), table.c.status.in_(READY_STATES))
        found: list[str] = self._ask(lambda connection: list(connection.execute(query).scalars()))
        return found

    def _document(self, row: Mapping[Any, Any]) -> Meta:
        """Return the document that a row holds. Raises DecodeError and ContentDisallowed."""
        values = dict(row)
        done: datetime | None = values["date_done"]
        meta = {
            "status": values["status"],
            "result": self._decode(values["result"]),
            "traceback": values["traceback"],
            "children": self._decode(values["children"]) or [],
            "date_done": None if done is None else done.replace(tzinfo=done.tzinfo or UTC).isoformat(),
            "task_id": values["task_id"],
        }
        if self._settings.sql.extended:
            for name in ("name", "worker", "retries", "queue"):
                meta[name] = values[name]
            for name in ("args", "kwargs"):
                meta[name] = self._decode(values[name])
            stamps = self._decode(values["stamps"])
            if isinstance(stamps, dict):
                meta["stamped_headers"] = stamps.get("stamped_headers")
                meta.update(stamps.get("stamps") or {})
        return meta

    def _decode(self, stored: Any) -> Any:
        """Decode one column.

        Celery before 5.7 stored every result as a pickle, whatever the serializer.
        """
        if stored is None:
            return None
        settings = self._settings
        body = open_document(bytes(stored), LIMIT)
        try:
            return decode(body, settings.content_type, settings.content_encoding, settings.accept)
        except DecodeError:
            if settings.content_type == _PICKLE or not body.startswith(_PICKLED):
                raise
            if _PICKLE not in settings.accept:
                raise ContentDisallowed(
                    "this result is a pickle, as Celery before 5.7 stores all results in databases: "
                    "add 'pickle' to result_accept_content to read it"
                ) from None
            return decode(body, _PICKLE, "binary", settings.accept)

    def _ask(self, question: Callable[[sa.Connection], Any]) -> Any:
        """Ask in a transaction, again on a new connection. Raises OperationalError."""
        for attempt in range(1, _TRIES + 1):
            try:
                with self._database.engine.connect() as connection:
                    self._database.make_tables(connection)
                    with connection.begin():
                        return question(connection)
            except (sa.exc.SQLAlchemyError, OSError) as error:
                if trouble_of(error) is Trouble.REFUSED:
                    # The tables may be gone.
                    self._database.forget_tables()
                if attempt == _TRIES:
                    raise OperationalError(f"{self._database.place}: {reason_of(error)}") from error
                time.sleep(reconnect_delay(attempt, random.random()))
        raise AssertionError("unreachable")


class SqlGroups:
    """Saved groups, in ``celery_tasksetmeta``."""

    def __init__(
        self,
        ask: Callable[[Callable[[sa.Connection], Any]], Any],
        database: Database,
        settings: ReaderSettings,
        decoded: Callable[[Any], Any],
    ) -> None:
        self._ask = ask
        self._database = database
        self._settings = settings
        self._decode = decoded

    def save_group(self, group_id: str, structure: object) -> None:
        """Save a group's structure; replace one that is there."""
        table = self._database.tables.group
        values = {
            "taskset_id": text_id(group_id),
            "result": encode(structure, self._settings.serializer)[0],
            "date_done": datetime.now(UTC).replace(tzinfo=None),
        }

        def write(connection: sa.Connection) -> None:
            connection.execute(sa.delete(table).where(table.c.taskset_id == values["taskset_id"]))
            connection.execute(sa.insert(table), values)

        self._ask(write)

    def restore_group(self, group_id: str) -> Any | None:
        """Return the saved structure of a group, or None. Raises DecodeError."""
        table = self._database.tables.group
        query = sa.select(table.c.result).where(table.c.taskset_id == text_id(group_id))
        structure = self._decode(self._ask(lambda connection: connection.execute(query).scalar()))
        if structure is not None and not isinstance(structure, (list, tuple)):
            raise DecodeError(f"the stored value of group {group_id} is not the structure of a group")
        return structure

    def delete_group(self, group_id: str) -> None:
        """Delete the saved structure of a group."""
        table = self._database.tables.group
        self._ask(
            lambda connection: connection.execute(sa.delete(table).where(table.c.taskset_id == text_id(group_id)))
        )
