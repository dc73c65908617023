"""The settings of results in SQL databases: which tables, and how to connect.

Read from an app's configuration by ``open_store`` and ``open_reader``. After it: ``backends.sql``. It is used without
SQLAlchemy, which is installed only where results are kept in a database. Plain data.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class SqlSettings:
    """The settings for Celery's tables. Times are in seconds."""

    #: ``database_engine_options``: arguments of ``sqlalchemy.create_engine``.
    engine_options: Mapping[str, Any] = field(default_factory=dict)
    #: ``database_short_lived_sessions``: connect for every operation, keep no connection.
    short_lived: bool = False
    #: ``database_table_schemas`` and ``database_table_names``, by "task" and "group".
    schemas: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    #: ``database_create_tables_at_setup``: a worker makes the tables when it starts; False: at the first result.
    create_at_setup: bool = True
    #: ``result_extended``: the table has the columns for name, arguments, worker, retries, queue and stamps.
    extended: bool = False
    #: ``result_serializer``.
    serializer: str = "json"
    #: Limit for connecting.
    connect_timeout: float = 10.0
    #: Time without an answer after which the connection counts as dead.
    reply_timeout: float = 30.0


def sql_settings(conf: Mapping[str, Any]) -> SqlSettings:
    """Return the settings from an app's configuration (under Celery's names)."""
    return SqlSettings(
        engine_options=conf["database_engine_options"] or {},
        short_lived=bool(conf["database_short_lived_sessions"]),
        schemas=conf["database_table_schemas"] or {},
        names=conf["database_table_names"] or {},
        create_at_setup=bool(conf["database_create_tables_at_setup"]),
        extended=bool(conf["result_extended"]),
        serializer=conf["result_serializer"] or "json",
    )
