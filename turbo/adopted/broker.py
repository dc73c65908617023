"""Where a Celery app's broker is, in the words that turbo's AMQP client understands.

Runs in the command, for ``adopted.settings``. A URL may leave parts to the settings that Celery had before it had
URLs (``broker_host``, ``broker_port`` …), and the TLS options mean what they mean to py-amqp. It opens nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Options of py-amqp's that say how a socket is wrapped; ours is always wrapped in the one way that is right.
_WRAPPING = frozenset(
    {"do_handshake_on_connect", "suppress_ragged_eofs", "server_side", "tls_minimum_version", "tls_maximum_version"}
)


def broker_urls(given: str | Iterable[str] | None, conf: Any) -> list[str]:
    """The URLs of the brokers, in the order in which they are tried, each complete.

    ``given`` is one URL or host, several by ``;``, or a list; ``conf`` a Celery app's configuration.
    """
    entries = [given] if isinstance(given, str) else list(given or ())
    pieces = [piece.strip() for entry in entries for piece in entry.split(";") if piece.strip()]
    return [_complete(piece, conf) for piece in pieces or [""]]


def _complete(url: str, conf: Any) -> str:
    scheme, mark, rest = url.partition("://")
    if not mark:
        scheme, rest = conf.broker_transport or "amqp", url
    parts = urlsplit(f"//{rest}")
    try:
        port = parts.port or conf.broker_port
    except ValueError:
        return f"{scheme}://{rest}"  # turbo's own reading of URLs says what is wrong with it
    user = parts.username or quote(conf.broker_user or "", safe="")
    password = parts.password or quote(conf.broker_password or "", safe="")
    vhost = parts.path[1:] or quote(conf.broker_vhost or "", safe="")
    host = parts.hostname or "localhost"
    host = f"[{host}]" if ":" in host else host
    login = f"{user}:{password}@" if password else f"{user}@" if user else ""
    query = f"?{parts.query}" if parts.query else ""
    return f"{scheme}://{login}{host}{f':{port}' if port else ''}/{vhost}{query}"


def tls(given: Any, urls: Iterable[str]) -> Any:
    """``broker_use_ssl`` for turbo's client: the peer's certificate is verified as py-amqp does it.

    py-amqp compares the host's name with the certificate only where ``server_hostname`` is among the options (None
    stands for the host of the URL); a deployment that relies on that must go on working.
    """
    if not given and not all(url.lower().startswith("amqps://") for url in urls):
        return False
    options = dict(given) if isinstance(given, Mapping) else {}
    options = {name: value for name, value in options.items() if name.removeprefix("ssl_") not in _WRAPPING}
    options.setdefault("check_hostname", "server_hostname" in options or "ssl_server_hostname" in options)
    return options
