"""Writes the master's batches to a database, each in one transaction.

Implements ``BatchWriter`` of ``backends.writer_thread``, which calls it in the master. Before it: packed rows
that children have encoded, and short JSON documents of the master. After it: ``sql.upsert``. The connection stays open
between batches, unless sessions are short-lived. It must never report a write before its transaction is committed.

A batch may hold several documents of one task, and a statement cannot write a row twice. So they are folded first, by
the rule that the database applies between batches: the later one counts, but a guarded one does not replace a SUCCESS.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from turbo.backends.sql.database import Database, reason_of, trouble_of
from turbo.backends.sql.upsert import Values, upsert, values_of
from turbo.backends.store import ResultWrite, StoreOutcome
from turbo.backends.writer_thread import Trouble, WriteError
from turbo.exceptions import DecodeError, EncodeError
from turbo.protocol.result_row import ROW_TYPE, ResultRow, row_of, unpack
from turbo.states import SUCCESS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from turbo.backends.sql_settings import SqlSettings

logger = logging.getLogger(__name__)

_JSON: Final = "application/json"
#: A statement that makes MySQL and MariaDB refuse values that do not fit, which they otherwise cut without an error.
_STRICT: Final = "SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')"
#: One that makes PostgreSQL end the transaction of a connection that was lost without a word, which has rows locked.
_IDLE: Final = "SET idle_in_transaction_session_timeout = '{:.0f}s'"
#: Bytes that drivers of MySQL send as two, and those of a statement around a document.
_ESCAPED: Final = (b"\0", b"\n", b"\r", b"\x1a", b'"', b"'", b"\\")
_AROUND: Final = 1024


class SqlWriter:
    """Writes to one database over one connection.

    Used by one thread, but for ``abort``.
    """

    def __init__(self, url: str, settings: SqlSettings) -> None:
        self._settings = settings
        self._database = Database(url, settings)
        self._connection: sa.Connection | None = None
        #: The size of MySQL's largest statement in bytes, once it is connected; None: no limit.
        self._largest: int | None = None
        #: Held while the duplicate of the connection's socket is used, so that ``abort`` never uses a closed one.
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None

    @property
    def place(self) -> str:
        """The database, without a password."""
        return self._database.place

    def open(self) -> None:
        """Connect and make the tables, if they are to be made at start. Raises WriteError."""
        if not self._settings.create_at_setup:
            return
        try:
            self._connected()
        except Exception as error:
            self.close()
            raise WriteError(trouble_of(error), reason_of(error)) from error

    def write(self, batch: Sequence[ResultWrite]) -> Sequence[StoreOutcome]:
        """Write a batch in one transaction. Raises WriteError."""
        try:
            return self._write(batch, ascii_only=False)
        except WriteError as error:
            if error.trouble is not Trouble.PERMANENT or len(batch) > 1:
                raise
        # A table in another character set takes no text that is not in it. The result itself is no text.
        return self._write(batch, ascii_only=True)

    def abort(self) -> None:
        """Break the connection of a running write.

        Only where the driver gives access to its socket.
        """
        with self._lock:
            if self._socket is not None:
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection; the next write connects again."""
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None
        connection, self._connection = self._connection, None
        for step in (connection.invalidate, connection.close) if connection is not None else ():
            try:
                step()
            except (sa.exc.SQLAlchemyError, OSError) as error:
                # What is wrong with the connection has been reported by the write.
                logger.debug("The connection to %s does not close: %s", self.place, reason_of(error))
        self._database.close()

    # -- inside ----------------------------------------------------------------------------------------------

    def _write(self, batch: Sequence[ResultWrite], *, ascii_only: bool) -> Sequence[StoreOutcome]:
        try:
            rows = [self._row(write) for write in batch]
        except (DecodeError, EncodeError) as error:
            raise WriteError(Trouble.PERMANENT, str(error)) from error
        unguarded, guarded, outcomes = _fold(batch, rows)
        extended = self._settings.extended
        table = self._database.tables.task

        def values(found: dict[str, ResultRow]) -> list[Values]:
            return [values_of(key, row, extended=extended, ascii_only=ascii_only) for key, row in found.items()]

        try:
            connection = self._connected()
            self._check_size(batch)
            with connection.begin():
                upsert(connection, table, values(unguarded), guarded=False)
                written = upsert(connection, table, values(guarded), guarded=True)
        except WriteError:
            raise
        except Exception as error:
            trouble = trouble_of(error)
            if trouble is Trouble.REFUSED:
                self._database.forget_tables()
            if trouble is not Trouble.PERMANENT:
                # Another server may be the right one now.
                self.close()
            raise WriteError(trouble, reason_of(error)) from error
        if self._settings.short_lived:
            self.close()
        return [
            StoreOutcome.KEPT if write.task_id in guarded and write.task_id not in written else outcome
            for write, outcome in zip(batch, outcomes, strict=True)
        ]

    def _row(self, write: ResultWrite) -> ResultRow:
        if write.content_type == ROW_TYPE:
            return unpack(write.payload)
        document: Any = None
        if write.content_type == _JSON:
            with contextlib.suppress(ValueError):
                document = json.loads(write.payload)
        if not isinstance(document, dict) or not isinstance(document.get("status"), str):
            raise DecodeError(f"this {write.content_type} is no result document")
        return row_of(document, self._settings.serializer)

    def _connected(self) -> sa.Connection:
        """Return the open connection, with its tables; open it if there is none."""
        if self._connection is None:
            connection = self._database.engine.connect()
            try:
                self._keep_socket(connection)
                self._set_up(connection)
            except BaseException:
                self._connection = connection
                self.close()
                raise
            self._connection = connection
        return self._connection

    def _set_up(self, connection: sa.Connection) -> None:
        self._database.make_tables(connection)
        with connection.begin():
            if self._database.dialect == "postgresql":
                connection.execute(sa.text(_IDLE.format(self._settings.reply_timeout)))
            elif self._database.dialect in ("mysql", "mariadb"):
                connection.execute(sa.text(_STRICT))
                self._largest = int(connection.execute(sa.text("SELECT @@max_allowed_packet")).scalar_one())

    def _check_size(self, batch: Sequence[ResultWrite]) -> None:
        """Raise WriteError for a batch that is too large for MySQL.

        MySQL would close the connection, at every attempt.
        """
        if self._largest is None:
            return
        size = sum(len(write.payload) + _AROUND for write in batch)
        if len(batch) > 1:
            # All of it may have to be escaped.
            size *= 2
        elif 4 * size > self._largest:
            size += sum(batch[0].payload.count(each) for each in _ESCAPED)
        # MariaDB reads into a buffer that it doubles, and so refuses what is larger than half of the limit.
        if 2 * size <= self._largest:
            return
        raise WriteError(Trouble.PERMANENT, f"larger than half of max_allowed_packet, {self._largest} bytes")

    def _keep_socket(self, connection: sa.Connection) -> None:
        """Duplicate the connection's socket for ``abort``.

        Only if the driver has ``fileno``, as those of PostgreSQL do.

        A duplicate, because the number of a socket that the driver has closed may already be another one's.
        """
        fileno = getattr(connection.connection.dbapi_connection, "fileno", None)
        if fileno is not None:
            with self._lock:
                self._socket = socket.socket(fileno=os.dup(fileno()))


def _fold(
    batch: Sequence[ResultWrite], rows: Sequence[ResultRow]
) -> tuple[dict[str, ResultRow], dict[str, ResultRow], list[StoreOutcome]]:
    """Return the rows to write, and the outcomes if all are written.

    The second are to be written unless the table has a SUCCESS.
    """
    unguarded: dict[str, ResultRow] = {}
    guarded: dict[str, ResultRow] = {}
    outcomes = []
    for write, row in zip(batch, rows, strict=True):
        task_id = write.task_id
        before = unguarded.get(task_id) or guarded.get(task_id)
        if not write.guard:
            guarded.pop(task_id, None)
            unguarded[task_id] = row
        elif before is not None and before.status == SUCCESS:
            outcomes.append(StoreOutcome.KEPT)
            continue
        else:
            # After a write that replaces any row, this one does too.
            (unguarded if task_id in unguarded else guarded)[task_id] = row
        outcomes.append(StoreOutcome.STORED)
    return unguarded, guarded, outcomes
