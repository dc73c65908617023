"""Makes the store of the master that writes to a database.

Called by ``backends.open_store``, which imports this module only then: it needs SQLAlchemy. Opens no connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from turbo.backends.blocking_store import BlockingStore
from turbo.backends.sql.writer import SqlWriter

if TYPE_CHECKING:
    from collections.abc import Callable

    from turbo.backends.store import ResultStore, StoreSettings


def sql_store(url: str, settings: StoreSettings, on_relief: Callable[[], None] | None) -> ResultStore:
    """Return the store for a ``db+`` URL.

    Raises ImproperlyConfigured for one that cannot be used.
    """
    return BlockingStore(SqlWriter(url, settings.sql), settings, on_relief=on_relief)
