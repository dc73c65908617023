"""Parses and builds remote-control requests and replies.

Before it: ``content``, which decoded the body. After it: ``control.service``, which runs the command, and
``control.mingle``, which asks other workers. Runs in the master. Pure. The format is that of kombu's mailboxes, which
Celery's command line and all monitors use. It must never trust the sender: any other format raises
:class:`PidboxError`, which says what is wrong.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass, field
from typing import Any, Final

from turbo.exceptions import TurboError
from turbo.protocol.content import encode
from turbo.protocol.properties import Properties, encode_header

#: Most bytes of a name in AMQP (exchange, routing key); also the limit for node names and tickets.
_LONGEST: Final = 255
_TRANSIENT: Final = 1


class PidboxError(TurboError, ValueError):
    """The message is neither a remote-control request nor a reply."""


@dataclass(frozen=True, slots=True)
class ReplyTo:
    """Where the client waits for replies."""

    exchange: str
    routing_key: str


@dataclass(frozen=True, slots=True)
class Request:
    """One request. Without destination and pattern it is for every worker."""

    method: str
    arguments: dict[str, Any] = field(default_factory=dict)
    destination: tuple[str, ...] = ()
    pattern: str = ""
    #: ``glob`` or ``pcre``.
    matcher: str = ""
    #: None if the client waits for no reply.
    reply_to: ReplyTo | None = None
    ticket: str | None = None
    #: Until when the client waits for replies, in seconds since 1970; None: it does not say.
    expires: float | None = None


def parse_request(body: object, expires: object = None) -> Request:
    """Return the request in a decoded body.

    ``expires``: its header of this name. Raises :class:`PidboxError`.
    """
    if not isinstance(body, dict):
        raise PidboxError(f"a request must be a mapping, not {type(body).__name__}")
    arguments = body.get("arguments") or {}
    if not isinstance(arguments, dict) or not all(isinstance(name, str) for name in arguments):
        raise PidboxError("the arguments must be a mapping of names")
    destination = body.get("destination") or ()
    if isinstance(destination, str):
        destination = (destination,)
    if not isinstance(destination, (list, tuple)) or not all(isinstance(name, str) for name in destination):
        raise PidboxError("the destination must be a list of node names")
    method = _text(body, "method")
    if not method:
        raise PidboxError("the request names no method")
    return Request(
        method,
        arguments,
        tuple(destination),
        _text(body, "pattern"),
        _text(body, "matcher"),
        _reply_to(body.get("reply_to")),
        _text(body, "ticket") or None,
        _expiry(expires),
    )


def _expiry(value: object) -> float | None:
    """Return the earliest time that the header may mean.

    turbo's clients round up to whole seconds.
    """
    if not isinstance(value, (int, float)) or not value > 0:
        return None
    return value - 1.0 if isinstance(value, int) else value


def _text(body: dict[Any, Any], name: str) -> str:
    value = body.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value.encode(errors="surrogatepass")) > _LONGEST:
        raise PidboxError(f"{name} must be text of at most {_LONGEST} bytes")
    return value


def _reply_to(value: object) -> ReplyTo | None:
    if not value:
        return None
    if not isinstance(value, dict):
        raise PidboxError("reply_to must be a mapping")
    exchange = _text(value, "exchange")
    if not exchange:
        raise PidboxError("reply_to names no exchange")
    return ReplyTo(exchange, _text(value, "routing_key"))


def concerns(request: Request, node: str) -> bool:
    """Whether the request is for this node.

    Raises :class:`PidboxError` for an invalid pattern.
    """
    if request.destination:
        return node in request.destination
    if not request.pattern or not request.matcher:
        return True
    if request.matcher == "glob":
        return fnmatch.fnmatchcase(node, request.pattern)
    if request.matcher == "pcre":
        try:
            return re.match(request.pattern, node) is not None
        except re.error as error:
            raise PidboxError(f"the pattern is not a regular expression: {error}") from error
    raise PidboxError("the matcher must be glob or pcre")


def parse_reply(body: object) -> tuple[str, object]:
    """Return the node that replied and its answer. Raises :class:`PidboxError`."""
    if not isinstance(body, dict) or len(body) != 1:
        raise PidboxError("a reply must be a mapping of one node")
    ((node, answer),) = body.items()
    if not isinstance(node, str) or len(node.encode(errors="surrogatepass")) > _LONGEST:
        raise PidboxError(f"the node of a reply must be text of at most {_LONGEST} bytes")
    return node, answer


def request_message(request: Request, clock: int, serializer: str) -> tuple[bytes, bytes]:
    """Return content header and body of a request without a pattern.

    Raises ``EncodeError`` if its arguments cannot be encoded.
    """
    value: dict[str, Any] = {
        "method": request.method,
        "arguments": request.arguments,
        "destination": list(request.destination) or None,
        "pattern": None,
        "matcher": None,
    }
    if request.reply_to is not None:
        where = {"exchange": request.reply_to.exchange, "routing_key": request.reply_to.routing_key}
        value |= {"ticket": request.ticket, "reply_to": where}
    return _message(value, {"clock": clock, "expires": 0}, serializer)


def reply_message(node: str, reply: object, ticket: str | None, clock: int, serializer: str) -> tuple[bytes, bytes]:
    """Return content header and body of a reply.

    Raises ``EncodeError`` if the reply cannot be encoded.
    """
    return _message({node: reply}, {"ticket": ticket, "clock": clock}, serializer)


def _message(value: object, headers: dict[str, object], serializer: str) -> tuple[bytes, bytes]:
    body, content_type, encoding = encode(value, serializer)
    properties = Properties(
        content_type=content_type,
        content_encoding=encoding,
        headers=headers,
        delivery_mode=_TRANSIENT,
        priority=0,
    )
    return encode_header(properties, len(body)), body
