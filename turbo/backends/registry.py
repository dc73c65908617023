"""From ``result_backend`` to the store that the master writes to.

Run once, by the wiring of the worker. An unknown scheme is refused by name at start, long before a result
would be lost to it. Opens nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from turbo.backends.disabled import DisabledStore
from turbo.backends.redis_store import RedisStore
from turbo.backends.rpc_store import ReplyOutbox, RpcStore
from turbo.backends.url import parse_redis_url, store_kind
from turbo.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from collections.abc import Callable

    from turbo.backends.store import ResultStore, StoreSettings


def open_store(
    url: str | None,
    settings: StoreSettings,
    *,
    outbox: ReplyOutbox | None = None,
    on_relief: Callable[[], None] | None = None,
) -> ResultStore:
    """Make the store that ``url`` names; ``start()`` it from inside the loop.

    ``outbox`` is needed for ``rpc://`` only. ``on_relief`` is called when ``congested`` turns false again.
    Raises ``ImproperlyConfigured``.
    """
    kind = store_kind(url)
    if kind == "redis":
        assert url is not None
        return RedisStore(parse_redis_url(url, settings.redis_ssl), settings, on_relief=on_relief)
    if kind == "rpc":
        if outbox is None:
            raise ImproperlyConfigured("rpc:// results need a publishing connection, and there is none here")
        return RpcStore(outbox, settings, on_relief=on_relief)
    return DisabledStore(high_water=settings.high_water)
