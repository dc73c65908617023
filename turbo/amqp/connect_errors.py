"""Explains in one line why a connection could not be opened, with a hint.

Between pika's errors and ``amqp.dialer`` in the master, and ``amqp.client`` in commands. Pika wraps a reason up to
three times; here it is unwrapped, classified, and given a hint. Pure: no I/O, no clock. It
must never put a password into its text.
"""

from __future__ import annotations

import re
from typing import Final

from turbo.exceptions import OperationalError

#: Text of a refusal that only a person can end, and the hint. Searched in this order in the reason.
_REFUSALS: Final = (
    ("Login was refused|AuthenticationError: .*403", "check the user and the password in broker_url"),
    ("vhost .* not found", "create the virtual host (rabbitmqctl add_vhost) or correct the path of broker_url"),
    (
        "access to vhost .* refused",
        "give the user permissions on the virtual host (rabbitmqctl set_permissions -p VHOST USER '.*' '.*' '.*')",
    ),
    (
        "CertificateError|CERTIFICATE_VERIFY_FAILED|certificate verify failed",
        "the broker's certificate is not trusted: check ca_certs and server_hostname in broker_use_ssl",
    ),
    (
        "WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE",
        "this port does not speak TLS: use amqp:// or the port for TLS, usually 5671",
    ),
    (
        "ALERT_(HANDSHAKE_FAILURE|BAD_CERTIFICATE|CERTIFICATE|UNKNOWN_CA)",
        "the broker requires another client certificate",
    ),
    (
        "no supported authentication|authentication mechanism",
        "the broker allows no login by PLAIN: check auth_mechanisms in its configuration",
    ),
)
#: Text of a failure that may pass by itself, and the hint.
_FAILURES: Final = (
    ("ConnectionRefusedError", "nothing listens there: start the broker, or correct host and port in broker_url"),
    ("gaierror", "the host name cannot be resolved: correct the host in broker_url, or check DNS"),
    ("ProtocolError|ProtocolVersion", "this port may belong to another protocol or require TLS (amqps://)"),
    ("[Tt]imed? ?out", "the host does not answer: check firewalls, and whether the broker hangs"),
    ("unreachable|No route", "there is no route to the host: check the network"),
    ("limit .*reached|reached .*limit", "raise the broker's limit on connections, or close some"),
    ("PLUGIN|shutting down|CONNECTION_FORCED|vhost .* is down", "the broker is starting or stopping"),
)


class ConnectFailed(OperationalError):
    """An attempt to connect failed.

    ``hint`` says what to do, "" when nothing is known; ``refused`` whether the broker answered and refuses this client
    for a reason that does not pass by itself: the login, the virtual host, TLS.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        refusal = _found(_REFUSALS, reason)
        self.refused = refusal is not None
        self.hint = refusal or _found(_FAILURES, reason) or ""


def _found(table: tuple[tuple[str, str], ...], reason: str) -> str | None:
    return next((hint for pattern, hint in table if re.search(pattern, reason)), None)


def reason_of(error: BaseException | str) -> str:
    """Return the reason inside pika's wrappings as one line."""
    # Programs that only send tasks import this module, and pika would cost them 60 ms of start-up.
    import pika.exceptions
    from pika.adapters.utils import connection_workflow

    if isinstance(error, str):
        return " ".join(error.split())
    if isinstance(error, connection_workflow.AMQPConnectionWorkflowFailed) and error.exceptions:
        return reason_of(error.exceptions[-1])
    if isinstance(error, connection_workflow.AMQPConnectorPhaseErrorBase):
        return reason_of(error.exception)
    if isinstance(error, connection_workflow.AMQPConnectorStackTimeout):
        return "timed out while connecting or in the TLS handshake"
    if isinstance(error, pika.exceptions.ConnectionOpenAborted):
        return "timed out in the AMQP handshake" if "Timeout while" in str(error) else "the attempt was abandoned"
    inner = error.args[0] if error.args else None
    if isinstance(error, pika.exceptions.AMQPConnectionError) and isinstance(inner, BaseException):
        return reason_of(inner)
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def explain(error: BaseException) -> str:
    """Return why a connection could not be opened or was lost, with a hint if known."""
    failed = ConnectFailed(reason_of(error))
    return f"{failed.reason} ({failed.hint})" if failed.hint else failed.reason
