"""The AMQP handshake between the embedded broker and a client.

It consists of protocol header, login, tuning and virtual host. A connection feeds it the frames of channel 0 until the
client has opened a virtual host, and sends the answers. Runs in the embedded broker's process. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pika import spec

from turbo.embedded_broker.faults import AmqpFault
from turbo.embedded_broker.wire import PROTOCOL_HEADER, decode_arguments, encode_method, method_index
from turbo.exceptions import TurboError
from turbo.protocol.table import TableError, decode_table

if TYPE_CHECKING:
    from collections.abc import Mapping

CHANNEL_MAX, FRAME_MAX, HEARTBEAT_SECONDS = 2047, 131072, 60
_SMALLEST_FRAME_MAX = 4096  # the minimum in AMQP 0-9-1

_CAPABILITIES = (
    "publisher_confirms",
    "exchange_exchange_bindings",
    "basic.nack",
    "consumer_cancel_notify",
    "consumer_priorities",
    "authentication_failure_close",
    "per_consumer_qos",
)


@dataclass(frozen=True, slots=True)
class Client:
    """What a client sent in connection.start-ok."""

    mechanism: str
    credentials: tuple[str, str] = field(repr=False)
    capabilities: Mapping[str, object]

    def can(self, capability: str) -> bool:
        """Whether the client announced a capability."""
        return self.capabilities.get(capability) is True


class LoginRefused(TurboError):
    """The credentials are wrong.

    `understands_close`: the client accepts a connection.close after that.
    """

    def __init__(self, fault: AmqpFault, understands_close: bool) -> None:
        super().__init__(fault.text)
        self.fault = fault
        self.understands_close = understands_close


class Handshake:
    """The steps from the protocol header to connection.open.

    The attributes hold the agreed values.
    """

    def __init__(self, credentials: tuple[str, str]) -> None:
        self.frame_max = FRAME_MAX
        self.heartbeat = 0
        self.client: Client | None = None
        #: The virtual host that the client opened; None until then.
        self.vhost: str | None = None
        self._credentials = credentials
        self._header = b""
        self._greeted = False

    def greet(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Read bytes up to the end of the protocol header.

        Return the answer and the bytes after it. Returns None if the client speaks another protocol.
        """
        if self._greeted:
            return b"", data
        self._header += data
        if len(self._header) < len(PROTOCOL_HEADER) and PROTOCOL_HEADER.startswith(self._header):
            return b"", b""
        if not self._header.startswith(PROTOCOL_HEADER):
            return None
        self._greeted = True
        return encode_method(0, _start()), self._header[len(PROTOCOL_HEADER) :]

    def take(self, payload: bytes) -> bytes:
        """Handle a method on channel 0; return the answer.

        Raises AmqpFault for an unexpected method, LoginRefused for wrong credentials.
        """
        index = method_index(payload)
        if self.client is None:
            if index == spec.Connection.StartOk.INDEX:
                return self._start_ok(payload)
        elif index == spec.Connection.TuneOk.INDEX:
            return self._tune_ok(payload)
        elif index == spec.Connection.Open.INDEX:
            (self.vhost,) = decode_arguments("s", payload)
            return encode_method(0, spec.Connection.OpenOk())
        raise AmqpFault(503, f"method {index:#010x} is not expected now")

    def _start_ok(self, payload: bytes) -> bytes:
        client = read_start_ok(payload)
        if client.credentials != self._credentials:
            fault = AmqpFault(403, f"Login was refused using authentication mechanism {client.mechanism}.")
            raise LoginRefused(fault, client.can("authentication_failure_close"))
        self.client = client
        return encode_method(0, spec.Connection.Tune(CHANNEL_MAX, FRAME_MAX, HEARTBEAT_SECONDS))

    def _tune_ok(self, payload: bytes) -> bytes:
        _channel_max, frame_max, self.heartbeat = decode_arguments("HIH", payload)
        if frame_max and not _SMALLEST_FRAME_MAX <= frame_max <= FRAME_MAX:
            raise AmqpFault(530, f"negotiated frame_max = {frame_max} is out of range")
        self.frame_max = frame_max or FRAME_MAX
        return b""


def _start() -> spec.Connection.Start:
    """Return connection.start."""
    properties = {
        "product": "turbo embedded broker",
        "information": "in memory, on loopback only, for trying turbo and for tests",
        "capabilities": dict.fromkeys(_CAPABILITIES, True),
    }
    return spec.Connection.Start(0, 9, properties, "PLAIN AMQPLAIN", "en_US")


def read_start_ok(payload: bytes) -> Client:
    """Return the client of a connection.start-ok.

    Raises AmqpFault 503 for a mechanism that was not offered.
    """
    properties, mechanism, response, _locale = decode_arguments("tsSs", payload)
    capabilities = properties.get("capabilities")
    return Client(mechanism, _credentials(mechanism, response), capabilities if isinstance(capabilities, dict) else {})


def _credentials(mechanism: str, response: bytes) -> tuple[str, str]:
    if mechanism == "PLAIN":
        parts = response.decode(errors="replace").split("\0")
        return (parts[1], parts[2]) if len(parts) == 3 else ("", "")
    if mechanism == "AMQPLAIN":
        try:
            table, _ = decode_table(len(response).to_bytes(4, "big") + response)
        except TableError:
            return ("", "")
        return str(table.get("LOGIN")), str(table.get("PASSWORD"))
    raise AmqpFault(503, f"unsupported authentication mechanism {mechanism}")
