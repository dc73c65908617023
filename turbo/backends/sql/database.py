"""A database with Celery's tables: its engine, its limits, what its errors mean.

Used by ``sql.writer`` in the master's writer thread, and by ``sql.client`` in clients and children. SQLAlchemy and the
driver are the user's. No text made here contains a password.
"""

from __future__ import annotations

import math
import os
import threading
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from turbo.backends.sql.tables import Tables, make, tables
from turbo.backends.url import sql_address
from turbo.backends.writer_thread import Trouble
from turbo.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from turbo.backends.sql_settings import SqlSettings

#: Errors after which the same statement may succeed, on this or another connection: SQLSTATE classes and codes of
#: PostgreSQL. 08: connection; 57P: the server shuts down or starts; 53300: too many connections.
_LOST_STATES: Final = ("08", "57P", "53300")
#: Data that the tables cannot hold: 22: data exceptions; 54: a limit of the server.
_PERMANENT_STATES: Final = ("22", "54")
#: Codes of MySQL and MariaDB: 2xxx are the client's own about its connection. 1040, 1203: too many connections; 1053:
#: shutdown; 1927: connection killed.
_LOST_CODES: Final = frozenset({0, 1040, 1053, 1203, 1927, *range(2000, 2100)})
#: 1153: larger than max_allowed_packet; 1264, 1366, 1406: a value that does not fit the column.
_PERMANENT_CODES: Final = frozenset({1153, 1264, 1366, 1406})
#: Options of ``create_engine`` about pools, which an engine that keeps no connections does not take.
_OF_POOLS: Final = frozenset({"max_overflow", "echo_pool"})


class Database:
    """The engine of one process. Thread-safe and fork-safe."""

    def __init__(self, url: str, settings: SqlSettings) -> None:
        """Open no connection yet.

        Raises ImproperlyConfigured for an invalid URL or option, or a missing driver.
        """
        self._settings = settings
        self.tables: Tables = tables(settings)
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._made = False
        try:
            self._url = sa.make_url(sql_address(url))
            self._engine = self._new_engine()
        except (sa.exc.ArgumentError, ImportError, TypeError, ValueError) as error:
            raise ImproperlyConfigured(f"result_backend: {error}") from error
        address = self._url.set(drivername=self._url.get_backend_name(), username=None, password=None, query={})
        #: Names the database in log messages.
        self.place = address.render_as_string()
        self.dialect = self._engine.dialect.name

    @property
    def engine(self) -> sa.Engine:
        """The engine.

        A forked process leaves its parent's connections alone and opens its own.
        """
        if self._pid != os.getpid():
            with self._lock:
                if self._pid != os.getpid():
                    self._engine.dispose(close=False)
                    self._pid = os.getpid()
        return self._engine

    def make_tables(self, connection: sa.Connection) -> None:
        """Make the tables at the first call, unless they exist.

        Raises SQLAlchemy's errors.
        """
        if not self._made:
            make(connection, self.tables)
            self._made = True

    def forget_tables(self) -> None:
        """Look again for the tables before the next use: they may have been dropped."""
        self._made = False

    def close(self) -> None:
        """Close the connections; the next use opens new ones."""
        self.engine.dispose()

    def _new_engine(self) -> sa.Engine:
        options: dict[str, Any] = dict(self._settings.engine_options)
        if self._settings.short_lived:
            options = {k: v for k, v in options.items() if not k.startswith("pool") and k not in _OF_POOLS}
            options["poolclass"] = NullPool
        options["connect_args"] = {**self._limits(), **options.get("connect_args", {})}
        return sa.create_engine(self._url, **options)

    def _limits(self) -> dict[str, Any]:
        """Return the driver's arguments that bound connecting and waiting.

        Those in the URL take precedence.
        """
        connect = max(1, math.ceil(self._settings.connect_timeout))
        reply = max(1, math.ceil(self._settings.reply_timeout))
        driver = self._url.get_dialect().driver
        if driver in ("psycopg", "psycopg2"):
            limits = {
                "connect_timeout": connect,
                "keepalives_idle": reply,
                "keepalives_interval": 5,
                "keepalives_count": 3,
                "tcp_user_timeout": reply * 1000,
            }
        elif driver == "pymysql":
            limits = {"connect_timeout": connect, "read_timeout": reply, "write_timeout": reply}
        elif driver == "mysqldb":
            limits = {"connect_timeout": connect}
        else:
            limits = {}
        return {name: value for name, value in limits.items() if name not in self._url.query}


def trouble_of(error: BaseException) -> Trouble:
    """Say what follows from an error of SQLAlchemy or a driver."""
    if isinstance(error, (UnicodeError, sa.exc.StatementError)) and not isinstance(error, sa.exc.DBAPIError):
        # The driver cannot send the value.
        return Trouble.PERMANENT
    if isinstance(error, (sa.exc.TimeoutError, OSError)):
        return Trouble.LOST
    if not isinstance(error, sa.exc.DBAPIError):
        return Trouble.REFUSED
    if error.connection_invalidated:
        return Trouble.LOST
    return _trouble_of_driver(error)


def _trouble_of_driver(error: sa.exc.DBAPIError) -> Trouble:
    orig: Any = error.orig
    module = type(orig).__module__.partition(".")[0]
    if module in ("psycopg", "psycopg2"):
        state = getattr(orig, "sqlstate", None) or getattr(orig, "pgcode", None)
        if state is None and isinstance(error, (sa.exc.OperationalError, sa.exc.InterfaceError)):
            return Trouble.LOST
        if state is not None and state.startswith(_LOST_STATES):
            return Trouble.LOST
        if state is not None and state.startswith(_PERMANENT_STATES):
            return Trouble.PERMANENT
    elif module in ("pymysql", "MySQLdb"):
        code = orig.args[0] if orig is not None and orig.args else None
        if code in _LOST_CODES:
            return Trouble.LOST
        if code in _PERMANENT_CODES:
            return Trouble.PERMANENT
    if isinstance(error, sa.exc.DataError):
        return Trouble.PERMANENT
    if module == "sqlite3" and isinstance(error, sa.exc.InterfaceError):
        return Trouble.PERMANENT
    return Trouble.REFUSED


def reason_of(error: BaseException) -> str:
    """Return the driver's text, in one line, without the statement and its values."""
    if isinstance(error, sa.exc.StatementError) and error.orig is not None:
        error = error.orig
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:500]}"
