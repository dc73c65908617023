"""The first words between the embedded broker and a client: what it is, who the client is.

Pure: builds connection.start and reads connection.start-ok. Runs in the embedded broker's process.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pika import spec

from turbo.embedded_broker.faults import AmqpFault
from turbo.embedded_broker.wire import decode_arguments
from turbo.protocol.table import TableError, decode_table

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    """What a client said of itself in connection.start-ok."""

    mechanism: str
    credentials: tuple[str, str] = field(repr=False)
    capabilities: Mapping[str, object]

    def can(self, capability: str) -> bool:
        """Whether the client announced a capability."""
        return self.capabilities.get(capability) is True


def start() -> spec.Connection.Start:
    """connection.start."""
    properties = {
        "product": "turbo embedded broker",
        "information": "in memory, on loopback only, for trying turbo and for tests",
        "capabilities": dict.fromkeys(_CAPABILITIES, True),
    }
    return spec.Connection.Start(0, 9, properties, "PLAIN AMQPLAIN", "en_US")


def read_start_ok(payload: bytes) -> Client:
    """The client of a connection.start-ok. AmqpFault 503 for a mechanism that was not offered."""
    properties, mechanism, response, _locale = decode_arguments("tsSs", payload)
    capabilities = properties.get("capabilities")
    return Client(
        mechanism, _credentials(mechanism, response), capabilities if isinstance(capabilities, dict) else {}
    )


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
