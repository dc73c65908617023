"""The settings of result readers, taken from an app's configuration.

Used by the app, in clients and children, when a result is first needed. Before it: the settings under Celery's names.
After it: ``redis.client``, ``redis.chords``, ``sql.client`` and ``rpc.client``. Settings are read only when a reader is
made.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from turbo.backends.sql_settings import SqlSettings, sql_settings
from turbo.protocol.content import accept_set, encode

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class ReaderSettings:
    """The settings for reading results. Times are in seconds."""

    #: Content type and encoding of ``result_serializer``.
    content_type: str = "application/json"
    content_encoding: str = "utf-8"
    serializer: str = "json"
    #: Content types that may be decoded: ``result_accept_content``, or else ``accept_content``.
    accept: frozenset[str] = frozenset({"application/json"})
    #: ``result_expires``: lifetime of what ``store_result`` writes, and of an unused reply queue.
    expires: float | None = 86400.0
    global_keyprefix: str = ""
    redis_ssl: Mapping[str, object] | None = None
    socket_timeout: float | None = 120.0
    connect_timeout: float | None = None
    #: ``result_extended``.
    extended: bool = False
    #: ``result_chord_expires``: lifetime of a chord's counters; None means ``expires``.
    chord_expires: float | None = None
    #: ``result_chord_join_timeout``.
    chord_join_timeout: float | None = 3.0
    #: ``result_chord_ordered`` of the transport options: a chord's results are in the order of the header; False: in
    #: the order in which the tasks ended.
    chord_ordered: bool = True
    #: ``database_*``.
    sql: SqlSettings = field(default_factory=SqlSettings)


def reader_settings(conf: Mapping[str, Any]) -> ReaderSettings:
    """Return the reader's settings from an app's configuration (under Celery's names)."""
    serializer = conf["result_serializer"] or "json"
    _, content_type, content_encoding = encode(None, serializer)
    names = conf["result_accept_content"]
    if names is None:
        names = conf["accept_content"]
    transport = conf["result_backend_transport_options"] or {}
    return ReaderSettings(
        sql=sql_settings(conf),
        content_type=content_type,
        content_encoding=content_encoding,
        serializer=serializer,
        accept=accept_set(names) | {content_type},
        expires=conf["result_expires"],
        global_keyprefix=str(transport.get("global_keyprefix") or ""),
        redis_ssl=conf["redis_backend_use_ssl"] or None,
        socket_timeout=conf["redis_socket_timeout"],
        connect_timeout=conf["redis_socket_connect_timeout"],
        extended=bool(conf["result_extended"]),
        chord_expires=conf["result_chord_expires"],
        chord_join_timeout=conf["result_chord_join_timeout"],
        chord_ordered=bool(transport.get("result_chord_ordered", True)),
    )
