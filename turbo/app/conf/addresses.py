"""Builds broker and Redis URLs from settings that give the parts of an address.

Called by ``app.conf.conf`` when such a setting is read, in every process that has an app. Older configurations set the
host, port, user, password and virtual host (or database) separately. A part that the URL contains takes precedence over
its setting. Opens no connections.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

BROKER_PARTS: Final = ("broker_transport", "broker_user", "broker_password", "broker_port", "broker_vhost")
REDIS_PARTS: Final = ("redis_host", "redis_username", "redis_password", "redis_port", "redis_db")


def whole_broker_urls(given: str | Iterable[str] | None, conf: Mapping[str, Any]) -> list[str]:
    """Return the complete broker URLs, in the order in which they are tried.

    ``given`` is a URL or host, several separated by ``;``, or a list of these. None and "" mean localhost.
    """
    entries = [given] if isinstance(given, str) else list(given or ())
    pieces = [piece.strip() for entry in entries for piece in entry.split(";") if piece.strip()]
    transport, user, password, port, vhost = map(conf.get, BROKER_PARTS)
    return [
        _whole(piece, transport or "amqp", "localhost", user, password, port, quote(vhost or "", safe=""))
        for piece in pieces or [""]
    ]


def broker_url(given: Any, conf: Mapping[str, Any]) -> Any:
    """Return the URLs completed by ``BROKER_PARTS`` settings, or ``given``."""
    return whole_broker_urls(given, conf) if any(map(conf.get, BROKER_PARTS)) else given


def store_url(given: Any, conf: Mapping[str, Any]) -> Any:
    """Complete a Redis ``result_backend`` from the ``REDIS_PARTS`` settings.

    Returns any other unchanged. ``redis_db`` is used only when ``given`` is the bare scheme (``redis``) and not a
    URL.
    """
    scheme = str(given or "").partition("://")[0]
    if scheme not in ("redis", "rediss") or not any(conf.get(part) is not None for part in REDIS_PARTS):
        return given
    host, user, password, port, number = map(conf.get, REDIS_PARTS)
    db = "" if "://" in given else str(number or 0).strip("/")
    rest = given if "://" in given else f"{scheme}://"
    return _whole(rest, scheme, host or "localhost", user, password, port, db)


def _whole(
    url: str, scheme: str, host: str, user: str | None, password: str | None, port: int | None, place: str
) -> str:
    """Return ``url`` (a URL, a host or "") with its missing parts filled in."""
    first, mark, rest = url.partition("://")
    scheme, rest = (first, rest) if mark else (scheme, url)
    parts = urlsplit(f"//{rest}")
    try:
        port = parts.port or port
    except ValueError:
        return f"{scheme}://{rest}"  # The URL's parser reports the invalid port.
    named = parts.username or quote(user or "", safe="")
    secret = parts.password or quote(password or "", safe="")
    host = parts.hostname or host
    host = f"[{host}]" if ":" in host else host
    login = f"{named}:{secret}@" if secret else f"{named}@" if named else ""
    query = f"?{parts.query}" if parts.query else ""
    return f"{scheme}://{login}{host}{f':{port}' if port else ''}/{parts.path[1:] or place}{query}"
