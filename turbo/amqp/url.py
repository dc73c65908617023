"""Parses broker URLs as Celery's users write them.

The first step of every broker connection, in clients and in the master: it turns the text of settings into
``BrokerAddress`` values, and those into pika's parameters. It must never open a connection; it reads files only to
build a TLS context.

The syntax is that of kombu (feature rows WP23, WP24): schemes ``amqp pyamqp py-amqp librabbitmq`` and ``amqps``; a
missing host, user or password is ``localhost``, ``guest``, ``guest``; an empty path and ``//`` both mean
the vhost ``/``; every part is percent-decoded; several brokers are separated by ``;`` or given as a list.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

from turbo.amqp.tls import TlsOptions, ssl_options
from turbo.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pika

_PLAIN = frozenset({"amqp", "pyamqp", "py-amqp", "librabbitmq"})
_TLS = frozenset({"amqps"})
_ONE_URL = re.compile(r"[A-Za-z][\w+.-]*://\S*?(?=$|\s|[\"'<>]|[;,]\s*[A-Za-z][\w+.-]*://)")

DEFAULT_PORT = 5672
DEFAULT_TLS_PORT = 5671


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """One broker to connect to. ``repr`` and ``label`` never show the password."""

    host: str = "localhost"
    port: int = DEFAULT_PORT
    vhost: str = "/"
    user: str = "guest"
    password: str = field(default="guest", repr=False)
    tls: bool = False
    options: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def label(self) -> str:
        """The address for logs: scheme, user, host, port and vhost."""
        scheme = "amqps" if self.tls else "amqp"
        host = f"[{self.host}]" if ":" in self.host else self.host
        vhost = self.vhost if self.vhost.startswith("/") else "/" + self.vhost
        return f"{scheme}://{self.user}:**@{host}:{self.port}{vhost}"


def parse_broker_url(url: str) -> BrokerAddress:
    """Parse one broker URL, or a bare host name.

    Raises ``ImproperlyConfigured``, whose text does not contain the password.
    """
    text = url.strip()
    scheme, mark, rest = text.partition("://")
    if not mark:
        scheme, rest = "amqp", text
    scheme = scheme.lower()
    if scheme not in _PLAIN and scheme not in _TLS:
        raise ImproperlyConfigured(
            f"broker URL {redact_url(text)!r}: scheme {scheme!r} is not supported, turbo speaks AMQP 0-9-1 "
            "(amqp://, pyamqp:// or amqps://)"
        )
    try:
        # urlsplit treats schemes differently; user, password, host and port have the same syntax as in http URLs.
        parts = urlsplit("http://" + rest)
        port = parts.port
    except ValueError as error:
        raise ImproperlyConfigured(f"broker URL {redact_url(text)!r}: {error}") from None
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    tls = scheme in _TLS or options.get("ssl", "").lower() in ("1", "true", "yes")
    path = parts.path[1:] if parts.path.startswith("/") else parts.path
    return BrokerAddress(
        host=unquote(parts.hostname or "") or "localhost",
        port=port or (DEFAULT_TLS_PORT if tls else DEFAULT_PORT),
        vhost=unquote(path) or "/",
        user=unquote(parts.username or "") or "guest",
        password=unquote(parts.password or "") or "guest",
        tls=tls,
        options=options,
    )


def parse_broker_urls(value: str | Iterable[str] | None, *, tls: bool = False) -> list[BrokerAddress]:
    """Parse ``broker_url``: one URL, several separated by ``;``, or a list.

    None and "" mean the local broker.
    ``tls`` (from ``broker_use_ssl``) switches TLS on for every address.
    """
    pieces = value.split(";") if isinstance(value, str) else list(value or ())
    urls = [piece for entry in pieces for piece in entry.split(";") if piece.strip()]
    addresses = [parse_broker_url(url) for url in urls] or [BrokerAddress()]
    return [_with_tls(address) for address in addresses] if tls else addresses


def _with_tls(address: BrokerAddress) -> BrokerAddress:
    if address.tls:
        return address
    port = DEFAULT_TLS_PORT if address.port == DEFAULT_PORT else address.port
    return BrokerAddress(address.host, port, address.vhost, address.user, address.password, True, address.options)


def redact_url(text: str) -> str:
    """Replace the password of every URL in ``text`` by ``**``.

    Leave everything else unchanged.
    """
    return _ONE_URL.sub(lambda match: _redact_one(match.group()), text)


def _redact_one(url: str) -> str:
    scheme, _, rest = url.partition("://")
    # The last @ ends the userinfo: an unescaped @ or / in a password must not leave its tail readable.
    userinfo, at, place = rest.rpartition("@")
    if not at or ":" not in userinfo:
        return url
    return f"{scheme}://{userinfo.partition(':')[0]}:**@{place}"


def negotiate_heartbeat(wanted: float, offered: int) -> int:
    """Return the smaller of both heartbeats in seconds.

    0 means that a side wants none. pika by itself would use the client's value.
    """
    whole = round(wanted)
    if whole <= 0 or offered <= 0:
        return max(whole, offered, 0)
    return min(whole, offered)


def parameters(
    address: BrokerAddress,
    *,
    heartbeat: float = 120.0,
    tls: TlsOptions | None = None,
    socket_timeout: float = 5.0,
    stack_timeout: float = 15.0,
    blocked_connection_timeout: float = 300.0,
    name: str = "turbo",
    frame_max: int = 131072,
) -> pika.ConnectionParameters:
    """Return pika's parameters for one address.

    All times are in seconds; none is left to pika's default. The heartbeat in use is the smaller one of ``heartbeat``
    and the broker's. ``stack_timeout`` limits the TCP, TLS and AMQP handshakes together. With TLS this reads
    certificate files, which takes tens of milliseconds, so call it before the loop is busy. Raises
    ``ImproperlyConfigured`` for unusable TLS files.
    """
    import pika  # pika costs a program that only sends tasks 60 ms of start-up
    import pika.credentials

    return pika.ConnectionParameters(
        host=address.host,
        port=address.port,
        virtual_host=address.vhost,
        credentials=pika.credentials.PlainCredentials(address.user, address.password),
        heartbeat=lambda _connection, offered: negotiate_heartbeat(heartbeat, offered),
        ssl_options=ssl_options(address.host, tls or TlsOptions()) if address.tls else None,
        connection_attempts=1,
        retry_delay=0,
        socket_timeout=socket_timeout,
        stack_timeout=stack_timeout,
        blocked_connection_timeout=blocked_connection_timeout,
        frame_max=frame_max,
        client_properties={"connection_name": name, "product": "turbo"},
    )
