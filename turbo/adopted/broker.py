"""Translates a Celery app's TLS options for the broker into turbo's.

Runs in the command, for ``adopted.settings``. The options mean what they mean to py-amqp. It must never open a
connection.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Options of py-amqp that choose how a socket is wrapped; turbo's client always wraps it in the same way.
_WRAPPING = frozenset(
    {"do_handshake_on_connect", "suppress_ragged_eofs", "server_side", "tls_minimum_version", "tls_maximum_version"}
)


def tls(given: Any, urls: Iterable[str]) -> Any:
    """Return ``broker_use_ssl`` for turbo's client.

    The client verifies the peer's certificate as py-amqp does. py-amqp compares the host's name with the certificate
    only if ``server_hostname`` is among the options (None stands for the host of the URL). A deployment that relies on
    that must keep working.
    """
    if not given and not all(url.lower().startswith("amqps://") for url in urls):
        return False
    options = dict(given) if isinstance(given, Mapping) else {}
    options = {name: value for name, value in options.items() if name.removeprefix("ssl_") not in _WRAPPING}
    options.setdefault("check_hostname", "server_hostname" in options or "ssl_server_hostname" in options)
    return options
