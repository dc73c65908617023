"""Writes rows to ``celery_taskmeta``: many at once, without reading them first.

Used by ``sql.writer`` for the master's batches, and by ``sql.client`` for states that clients set. A row that holds
SUCCESS keeps it, unless another SUCCESS is written. The database decides this row by row, so that two workers which
write the same task cannot come between the look and the write.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite

from turbo.backends.sql.tables import LONGEST_NAME
from turbo.states import SUCCESS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from turbo.protocol.result_row import ResultRow

#: Columns of text, and those that are cut to the length of their type.
_TEXTS = ("traceback", "name", "worker", "queue")
_SHORT = ("name", "worker", "queue")

#: Rows in one statement of MySQL.
_TOGETHER = 100

#: One row as the parameters of a statement.
Values = dict[str, Any]


def values_of(task_id: str, row: ResultRow, *, extended: bool, ascii_only: bool = False) -> Values:
    """Return a row's parameters.

    Text is made storable in every database: PostgreSQL takes no zero bytes and no driver a lone surrogate, so both are
    written as escapes. ``ascii_only`` escapes everything else too, for tables in another character set.
    """
    values: Values = {
        "task_id": task_id,
        "status": row.status,
        "result": row.result,
        "date_done": _naive(row.date_done),
        "traceback": row.traceback,
        "children": row.children,
    }
    if extended:
        values |= {
            "name": row.name,
            "args": row.args,
            "kwargs": row.kwargs,
            "worker": row.worker,
            "retries": row.retries,
            "queue": row.queue,
            "stamps": row.stamps,
        }
    charset = "ascii" if ascii_only else "utf-8"
    for name in _TEXTS:
        text = values.get(name)
        if text:
            text = text.replace("\0", "\\x00").encode(charset, "backslashreplace").decode(charset)
            values[name] = text[:LONGEST_NAME] if name in _SHORT else text
    return values


def _naive(date_done: str | None) -> datetime | None:
    """Return the time in UTC without a zone, as Celery stores it."""
    if date_done is None:
        return None
    moment = datetime.fromisoformat(date_done)
    return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)


def upsert(connection: sa.Connection, table: sa.Table, rows: Sequence[Values], *, guarded: bool) -> set[str]:
    """Insert or replace rows with distinct ids; return the ids of those written.

    ``guarded``: rows that hold SUCCESS are kept. Rows are written in the order of their ids, so that two workers that
    write the same ones do not wait for each other in a circle.
    """
    ordered = sorted(rows, key=lambda values: str(values["task_id"]))
    if not ordered:
        return set()
    if connection.dialect.name in ("mysql", "mariadb"):
        return _upsert_mysql(connection, table, ordered, guarded)
    insert: Any = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)
    changes = {name: insert.excluded[name] for name in ordered[0] if name != "task_id"}
    where = sa.or_(table.c.status.is_(None), table.c.status != SUCCESS) if guarded else None
    statement = insert.on_conflict_do_update(index_elements=[table.c.task_id], set_=changes, where=where)
    return set(connection.execute(statement.returning(table.c.task_id), ordered).scalars())


def _upsert_mysql(connection: sa.Connection, table: sa.Table, rows: Sequence[Values], guarded: bool) -> set[str]:
    insert = mysql.insert(table)
    # MySQL assigns from left to right, and later assignments see the new values: status must be the last.
    names = [*(name for name in rows[0] if name not in ("task_id", "status")), "status"]
    kept = table.c.status == SUCCESS
    changes: list[tuple[str, Any]] = [
        (name, sa.func.if_(kept, table.c[name], insert.inserted[name]) if guarded else insert.inserted[name])
        for name in names
    ]
    for start in range(0, len(rows), _TOGETHER):
        # All in one statement: drivers send the rows one by one, since MariaDB takes each id from a sequence.
        connection.execute(insert.values(rows[start : start + _TOGETHER]).on_duplicate_key_update(changes))
    ids = {values["task_id"] for values in rows}
    if not guarded:
        return ids
    # The statement has locked the rows, so this sees what it left. A row that was written now has another state.
    of_success = sa.select(table.c.task_id).where(table.c.task_id.in_(ids), table.c.status == SUCCESS)
    return ids - set(connection.execute(of_success).scalars())
