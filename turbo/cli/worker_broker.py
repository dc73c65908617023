"""``turbo worker --embedded-broker``: starts the embedded broker.

Called by the worker's command after the app is found and before its settings are used; nothing is forked yet. Runs in
the process that becomes the master. It must never change the URL to a broker on another machine.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from turbo.amqp.url import BrokerAddress, parse_broker_urls
from turbo.embedded_broker.launch import BrokerProcess, free_port, run_in_subprocess
from turbo.exceptions import ImproperlyConfigured, OperationalError

if TYPE_CHECKING:
    import contextlib

    from turbo.app.conf.conf import Settings

_VARIABLES: Final = ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL")
#: The embedded broker binds to 127.0.0.1 and has one user.
_HERE: Final = ("localhost", "127.0.0.1")
_USER: Final = ("guest", "guest")


def start_embedded(conf: Settings, cleanup: contextlib.ExitStack) -> str:
    """Start the broker and return a sentence about it for the log.

    If the app's URL names a free port of this machine, the broker listens there and the URL is kept. Otherwise it
    listens on another free port, and ``conf`` and the environment are changed to its URL. ``cleanup`` stops the broker.
    Raises OperationalError if it does not start.
    """
    port = own_port(conf)
    broker = _start(port)
    cleanup.enter_context(broker)
    note = "the embedded broker keeps messages in memory only and loses them when this worker ends"
    if broker.port == port:
        return f"{note}; it listens on port {port}, as the app's broker URL says"
    os.environ.update(dict.fromkeys(_VARIABLES, broker.url))
    conf["broker_url"] = broker.url
    return f"{note}; before you call tasks from another terminal, run there: export CELERY_BROKER_URL={broker.url}"


def own_port(conf: Settings) -> int:
    """Return the port of this machine in the app's broker URL.

    0 if the embedded broker cannot serve that URL.
    """
    read, write = (_addresses(conf[name]) for name in ("broker_read_url", "broker_write_url"))
    if read != write or len(read) != 1:
        return 0
    (address,) = read
    if conf["broker_use_ssl"] or address.tls or address.host not in _HERE:
        return 0
    return address.port if (address.user, address.password) == _USER else 0


def _addresses(value: str | list[str] | None) -> list[BrokerAddress]:
    try:
        return parse_broker_urls(value)
    except ImproperlyConfigured:
        # The URL is not AMQP; the embedded broker replaces it.
        return []


def _start(port: int) -> BrokerProcess:
    if port and free_port(port):
        try:
            return run_in_subprocess(port)
        except OperationalError:
            # Another process has just taken the port; use any other port.
            pass
    return run_in_subprocess()
