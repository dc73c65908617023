"""Makes the store for ``result_backend`` that the master writes to.

``backends.url.KINDS`` lists the URL schemes, ``backends.store`` defines what a store must do, and
``backends.open_reader`` makes the reading side. Called once, by the wiring of the worker. An unknown scheme is refused
at start, before any result could be lost. Opens no connection.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from turbo.backends.disabled import DisabledStore
from turbo.backends.redis.store import RedisStore
from turbo.backends.rpc.store import ReplyPublisher, RpcStore
from turbo.backends.sql_settings import sql_settings
from turbo.backends.store import StoreSettings
from turbo.backends.url import parse_redis_url, store_kind
from turbo.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from turbo.backends.store import ResultStore


def open_store(
    url: str | None,
    settings: StoreSettings,
    *,
    publisher: ReplyPublisher | None = None,
    on_relief: Callable[[], None] | None = None,
) -> ResultStore:
    """Return the store for ``url``; call its ``start()`` inside the event loop.

    ``publisher`` is required for ``rpc://`` only. ``on_relief`` is called when ``congested`` becomes False again.
    Raises ``ImproperlyConfigured`` for an unknown store or an invalid URL.
    """
    kind = store_kind(url)
    if kind == "redis":
        assert url is not None
        return RedisStore(parse_redis_url(url, settings.redis_ssl), settings, on_relief=on_relief)
    if kind == "rpc":
        if publisher is None:
            raise ImproperlyConfigured("rpc:// results need a publishing connection, and this worker has none")
        return RpcStore(publisher, settings, on_relief=on_relief)
    if kind == "sql":
        assert url is not None
        # This module imports SQLAlchemy, which belongs to the extra "sql".
        store: ResultStore = import_module("turbo.backends.sql.store").sql_store(url, settings, on_relief)
        return store
    return DisabledStore(high_water=settings.high_water)


def store_settings(conf: Mapping[str, Any]) -> StoreSettings:
    """Return the store's settings from an app's configuration (under Celery's names).

    ``redis_socket_timeout`` is limited to 30 s. In Celery it is the timeout of a single command, but here all results
    wait for a connection that has stopped answering.
    """
    defaults = StoreSettings()
    transport = conf["result_backend_transport_options"] or {}
    return StoreSettings(
        expires=conf["result_expires"],
        failure_expires=conf["result_failure_expires"],
        persistent=bool(conf["result_persistent"]),
        global_keyprefix=str(transport.get("global_keyprefix") or ""),
        reply_timeout=min(conf["redis_socket_timeout"] or defaults.reply_timeout, defaults.reply_timeout),
        connect_timeout=conf["redis_socket_connect_timeout"] or defaults.connect_timeout,
        redis_ssl=conf["redis_backend_use_ssl"] or None,
        sql=sql_settings(conf),
    )
