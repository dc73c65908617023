"""Databases of every kind for the tests of results in SQL, and what writes to them as a worker does."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
import uvloop

from turbo.app.conf.conf import Settings
from turbo.backends.open_store import open_store, store_settings
from turbo.backends.store import ResultWrite, StoreOutcome
from turbo.protocol.result_meta import build_meta
from turbo.protocol.result_row import ROW_TYPE, pack, row_of


@dataclass(frozen=True, slots=True)
class Place:
    """An empty database."""

    kind: str
    #: For SQLAlchemy.
    url: str

    @property
    def backend(self) -> str:
        """The ``result_backend``."""
        return f"db+{self.url}"

    def rows(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        """Execute one statement; return its rows."""
        engine = sa.create_engine(self.url)
        try:
            with engine.begin() as connection:
                result = connection.execute(sa.text(statement), values)
                return [tuple(row) for row in result] if result.returns_rows else []
        finally:
            engine.dispose()

    def columns(self, table: str) -> list[tuple[str, str]]:
        """Return the names and types of a table's columns, and its indexes."""
        engine = sa.create_engine(self.url)
        try:
            inspector = sa.inspect(engine)
            found = [(column["name"], repr(column["type"])) for column in inspector.get_columns(table)]
            found += [(str(index["name"]), repr(index["column_names"])) for index in inspector.get_indexes(table)]
            return sorted(found)
        finally:
            engine.dispose()


def row(task_id: str, state: str = "SUCCESS", result: Any = 42, serializer: str = "json", **more: Any) -> ResultWrite:
    """Return a document as a child sends it; ``more`` are arguments of ``build_meta``."""
    done = datetime.now(UTC).isoformat() if state in ("SUCCESS", "FAILURE", "REVOKED") else None
    meta = build_meta(task_id, state, result, more.pop("traceback", None), date_done=done, **more)
    return ResultWrite(task_id, pack(row_of(meta, serializer)), guard=state != "SUCCESS", content_type=ROW_TYPE)


def write(place: Place, writes: Sequence[ResultWrite], **conf: Any) -> list[StoreOutcome]:
    """Store documents as a worker with these settings; return the outcomes, in the order in which they came."""
    outcomes: list[StoreOutcome] = []

    async def run() -> None:
        store = open_store(place.backend, store_settings(Settings({"result_backend": place.backend, **conf})))
        for each in writes:
            store.store(each, outcomes.append)
        await store.start()
        assert await store.drain(time.monotonic() + 60)
        await store.stop(time.monotonic() + 10)

    uvloop.run(run())
    return outcomes
