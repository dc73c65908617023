"""How a Celery app's connection to its broker is secured, in the words that turbo's AMQP client understands.

Runs in the command, for ``adopted.settings``. The TLS options mean what they mean to py-amqp. It opens nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Options of py-amqp's that say how a socket is wrapped; ours is always wrapped in the one way that is right.
_WRAPPING = frozenset(
    {"do_handshake_on_connect", "suppress_ragged_eofs", "server_side", "tls_minimum_version", "tls_maximum_version"}
)


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
