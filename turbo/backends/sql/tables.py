"""Celery's tables ``celery_taskmeta`` and ``celery_tasksetmeta``; makes them.

Names, columns, types, sequences and indexes are those of Celery's database backend, so that turbo's and Celery's
programs use the same tables, whichever makes them first. Used by ``sql.database``, in the master's writer thread and in
clients. It must never change a column that exists.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

if TYPE_CHECKING:
    from turbo.backends.sql_settings import SqlSettings

logger = logging.getLogger(__name__)

#: Length of ids and names in characters.
LONGEST_NAME: Final = 155


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables of one app."""

    task: sa.Table
    group: sa.Table


def tables(settings: SqlSettings) -> Tables:
    """Return the tables by the settings. Opens no connection."""
    metadata = sa.MetaData()
    schema = settings.schemas.get("task")
    columns: list[sa.Column[object]] = [
        _id("task_id_sequence", schema),
        sa.Column("task_id", sa.String(LONGEST_NAME), unique=True),
        sa.Column("status", sa.String(50)),
        sa.Column("result", sa.LargeBinary),
        sa.Column("date_done", sa.DateTime, index=True),
        sa.Column("traceback", sa.Text),
        sa.Column("children", sa.LargeBinary),
    ]
    if settings.extended:
        columns += [
            sa.Column("name", sa.String(LONGEST_NAME)),
            sa.Column("args", sa.LargeBinary),
            sa.Column("kwargs", sa.LargeBinary),
            sa.Column("worker", sa.String(LONGEST_NAME)),
            sa.Column("retries", sa.Integer),
            sa.Column("queue", sa.String(LONGEST_NAME)),
            sa.Column("stamps", sa.LargeBinary),
        ]
    name = settings.names.get("task") or "celery_taskmeta"
    task = sa.Table(name, metadata, *columns, schema=schema, sqlite_autoincrement=True)
    schema = settings.schemas.get("group")
    group = sa.Table(
        settings.names.get("group") or "celery_tasksetmeta",
        metadata,
        _id("taskset_id_sequence", schema),
        sa.Column("taskset_id", sa.String(LONGEST_NAME), unique=True),
        sa.Column("result", sa.LargeBinary),
        sa.Column("date_done", sa.DateTime, index=True),
        schema=schema,
        sqlite_autoincrement=True,
    )
    return Tables(task, group)


def _id(sequence: str, schema: str | None) -> sa.Column[object]:
    return sa.Column("id", sa.Integer, sa.Sequence(sequence, schema=schema), primary_key=True, autoincrement=True)


def make(connection: sa.Connection, found: Tables) -> None:
    """Make the tables that do not exist, and missing columns.

    Older versions of Celery did not make all of them.

    Another program may make them at the same time: the error of the slower one is ignored if the tables exist then.
    Raises SQLAlchemy's errors.
    """
    try:
        with connection.begin():
            found.task.metadata.create_all(connection)
    except sa.exc.DatabaseError:
        # The faster program has made all that it needs when its transaction is over, so the second attempt finds it.
        with connection.begin():
            found.task.metadata.create_all(connection)
    with connection.begin():
        inspector = sa.inspect(connection)
        missing = [
            (table, column)
            for table in (found.task, found.group)
            for existing in [{each["name"] for each in inspector.get_columns(table.name, schema=table.schema)}]
            for column in table.columns
            if column.name not in existing
        ]
    for table, column in missing:
        _add(connection, table, column)


def _add(connection: sa.Connection, table: sa.Table, column: sa.Column[object]) -> None:
    preparer = connection.dialect.identifier_preparer
    kind = column.type.compile(connection.dialect)
    statement = f"ALTER TABLE {preparer.format_table(table)} ADD COLUMN {preparer.format_column(column)} {kind}"
    try:
        with connection.begin():
            connection.execute(sa.text(statement))
    except sa.exc.DatabaseError as error:
        # The account may lack the right, or another program was faster. Writing fails if the column is missing.
        logger.warning("Column %s of table %s cannot be added (%s): %s", column.name, table.name, statement, error.orig)
