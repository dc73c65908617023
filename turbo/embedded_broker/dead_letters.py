"""Builds the message that the embedded broker publishes to a dead-letter exchange.

Called by the virtual host for a message that leaves a queue without an acknowledgement; it also detects cycles. Only
this module decodes a header table, one level deep: every other header keeps its bytes. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from turbo.embedded_broker.message import EXPIRATION, Message, make_message, rebuild
from turbo.protocol.table import TableError, decode_table, encode_table

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

EXPIRED, REJECTED, MAXLEN, DELIVERY_LIMIT = "expired", "rejected", "maxlen", "delivery_limit"

_FIXED = {
    b"t": 1, b"b": 1, b"B": 1, b"U": 2, b"u": 2, b"s": 2, b"I": 4, b"i": 4, b"f": 4,
    b"l": 8, b"L": 8, b"d": 8, b"T": 8, b"D": 5, b"V": 0,
}  # fmt: skip
_SIZED = frozenset((b"S", b"x", b"A", b"F"))


def dead_letter(
    message: Message, queue: str, reason: str, exchange: str, key: str | None, now: datetime
) -> Message | None:
    """Return the message to publish to `exchange`; None if the message is in a cycle.

    `key` replaces the routing key if given. `reason` goes into `x-death`, as in RabbitMQ.
    """
    headers = split_table(message.table)
    deaths = _deaths(headers.get("x-death"))
    if reason != REJECTED and _is_cycle(deaths, queue):
        return None
    death = _pop_death(deaths, queue, reason)
    if death is None:
        death = {
            "count": 0,
            "reason": reason,
            "queue": queue,
            "time": now,
            "exchange": message.exchange,
            "routing-keys": [message.routing_key],
        }
        if reason == EXPIRED and message.layout.flags & EXPIRATION:
            start, end = message.layout.expiration
            death["original-expiration"] = message.header[start + 1 : end].decode()
    count = death["count"]
    death["count"] = count + 1 if isinstance(count, int) else 1
    added: dict[str, object] = {"x-death": [death, *deaths]}
    if "x-first-death-reason" not in headers:
        added |= {
            "x-first-death-reason": reason,
            "x-first-death-queue": queue,
            "x-first-death-exchange": message.exchange,
        }
    header = rebuild(message.header, message.layout, put_headers(headers, added), keep_expiration=False)
    return make_message(exchange, message.routing_key if key is None else key, header, message.body)


def with_delivery_count(message: Message, count: int) -> bytes:
    """Return the content header with `x-delivery-count`, as quorum queues do."""
    table = put_headers(split_table(message.table), {"x-delivery-count": count})
    return rebuild(message.header, message.layout, table, keep_expiration=True)


def split_table(encoded: bytes) -> dict[str, bytes]:
    """Return the entries of an encoded table (with its length), values encoded.

    Raises TableError.
    """
    entries: dict[str, bytes] = {}
    at = 4
    while at < len(encoded):
        key_end = at + 1 + encoded[at]
        kind = encoded[key_end : key_end + 1]
        if kind in _SIZED:
            end = key_end + 5 + int.from_bytes(encoded[key_end + 1 : key_end + 5], "big")
        elif kind in _FIXED:
            end = key_end + 1 + _FIXED[kind]
        else:
            raise TableError(f"a header has the unknown type {kind!r}")
        if end > len(encoded):
            raise TableError("a header exceeds the end of its table")
        entries[encoded[at + 1 : key_end].decode(errors="surrogateescape")] = encoded[key_end:end]
        at = end
    return entries


def put_headers(entries: Mapping[str, bytes], added: Mapping[str, object]) -> bytes:
    """Return an encoded table with the entries `added` in front.

    They replace those of the same name.
    """
    pieces = [encode_table(added)[4:]]
    for name, value in entries.items():
        if name not in added:
            key = name.encode(errors="surrogateescape")
            pieces += (bytes([len(key)]), key, value)
    body = b"".join(pieces)
    return len(body).to_bytes(4, "big") + body


def _deaths(encoded: bytes | None) -> list[dict[str, object]]:
    if encoded is None:
        return []
    entry = b"\x07x-death" + encoded
    table, _ = decode_table(len(entry).to_bytes(4, "big") + entry)
    found = table["x-death"]
    return [death for death in found if isinstance(death, dict)] if isinstance(found, list) else []


def _pop_death(deaths: list[dict[str, object]], queue: str, reason: str) -> dict[str, object] | None:
    for death in deaths:
        if death.get("queue") == queue and death.get("reason") == reason:
            deaths.remove(death)
            return death
    return None


def _is_cycle(deaths: list[dict[str, object]], queue: str) -> bool:
    """Whether the message was in this queue before and nobody has rejected it since."""
    for death in deaths:  # newest first
        if death.get("reason") == REJECTED:
            return False
        if death.get("queue") == queue:
            return True
    return False
