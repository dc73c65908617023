"""AMQP reply codes as exceptions, for requests that the embedded broker refuses.

Raised by the virtual host, its queues and exchanges and by the method handlers; the connection catches them and sends
channel.close or connection.close. Runs in the embedded broker's process. Texts begin with the name of the reply code,
as in RabbitMQ, because clients show and sometimes search them.
"""

from __future__ import annotations

from turbo.exceptions import TurboError

_NAMES = {
    311: "CONTENT_TOO_LARGE",
    312: "NO_ROUTE",
    313: "NO_CONSUMERS",
    320: "CONNECTION_FORCED",
    402: "INVALID_PATH",
    403: "ACCESS_REFUSED",
    404: "NOT_FOUND",
    405: "RESOURCE_LOCKED",
    406: "PRECONDITION_FAILED",
    501: "FRAME_ERROR",
    502: "SYNTAX_ERROR",
    503: "COMMAND_INVALID",
    504: "CHANNEL_ERROR",
    505: "UNEXPECTED_FRAME",
    530: "NOT_ALLOWED",
    540: "NOT_IMPLEMENTED",
    541: "INTERNAL_ERROR",
}
#: The codes that close only the channel in AMQP 0-9-1; all others close the connection.
_SOFT = frozenset({311, 312, 313, 403, 404, 405, 406})


class AmqpFault(TurboError):
    """An AMQP reply code with its text.

    `closes_channel` says whether only the channel is closed.
    """

    def __init__(self, code: int, detail: str) -> None:
        self.code = code
        self.text = f"{_NAMES[code]} - {detail}"
        super().__init__(self.text)

    @property
    def closes_channel(self) -> bool:
        """Whether only the channel is closed, not the connection."""
        return self.code in _SOFT


def access_refused(detail: str) -> AmqpFault:
    """Return the fault 403."""
    return AmqpFault(403, detail)


def not_found(kind: str, name: str, vhost: str) -> AmqpFault:
    """Return the fault 404 for a queue or an exchange."""
    return AmqpFault(404, f"no {kind} '{name}' in vhost '{vhost}'")


def precondition_failed(detail: str) -> AmqpFault:
    """Return the fault 406."""
    return AmqpFault(406, detail)
