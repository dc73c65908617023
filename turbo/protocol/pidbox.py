"""Requests of remote control and replies to them, between decoded values and typed ones.

Before it: ``content``, which decoded the body. After it: ``control.service``, which finds the command. Pure; runs in
the master. The form is that of kombu's mailboxes, which Celery's command line and every monitor speak. Nothing here
trusts the sender: whatever has another form raises :class:`PidboxError` with what is wrong.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass, field
from typing import Any, Final

from turbo.exceptions import TurboError
from turbo.protocol.content import encode
from turbo.protocol.properties import Properties, encode_header

#: Longest name that AMQP has room for, in bytes: exchanges, keys; and what we take as a node's or a ticket.
_LONGEST: Final = 255
_TRANSIENT: Final = 1


class PidboxError(TurboError, ValueError):
    """The message is no request of remote control."""


@dataclass(frozen=True, slots=True)
class ReplyTo:
    """Where the asker waits."""

    exchange: str
    routing_key: str


@dataclass(frozen=True, slots=True)
class Request:
    """One request. Without destination and pattern it concerns every worker."""

    method: str
    arguments: dict[str, Any] = field(default_factory=dict)
    destination: tuple[str, ...] = ()
    pattern: str = ""
    #: ``glob`` or ``pcre``.
    matcher: str = ""
    #: None: nobody waits for a reply.
    reply_to: ReplyTo | None = None
    ticket: str | None = None


def parse_request(body: object) -> Request:
    """Make a request of a decoded body. Raises :class:`PidboxError`."""
    if not isinstance(body, dict):
        raise PidboxError(f"a request is a mapping, not {type(body).__name__}")
    arguments = body.get("arguments") or {}
    if not isinstance(arguments, dict) or not all(isinstance(name, str) for name in arguments):
        raise PidboxError("the arguments are no mapping of names")
    destination = body.get("destination") or ()
    if isinstance(destination, str):
        destination = (destination,)
    if not isinstance(destination, (list, tuple)) or not all(isinstance(name, str) for name in destination):
        raise PidboxError("the destination is no list of node names")
    method = _text(body, "method")
    if not method:
        raise PidboxError("no method is named")
    return Request(
        method,
        arguments,
        tuple(destination),
        _text(body, "pattern"),
        _text(body, "matcher"),
        _reply_to(body.get("reply_to")),
        _text(body, "ticket") or None,
    )


def _text(body: dict[Any, Any], name: str) -> str:
    value = body.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value.encode(errors="surrogatepass")) > _LONGEST:
        raise PidboxError(f"the {name} is no text of at most {_LONGEST} bytes")
    return value


def _reply_to(value: object) -> ReplyTo | None:
    if not value:
        return None
    if not isinstance(value, dict):
        raise PidboxError("reply_to is no mapping")
    exchange = _text(value, "exchange")
    if not exchange:
        raise PidboxError("reply_to names no exchange")
    return ReplyTo(exchange, _text(value, "routing_key"))


def concerns(request: Request, node: str) -> bool:
    """Whether this node is meant. Raises :class:`PidboxError` for a pattern that cannot be understood."""
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
            raise PidboxError(f"the pattern is no regular expression: {error}") from error
    raise PidboxError("the matcher is neither glob nor pcre")


def reply_message(node: str, reply: object, ticket: str | None, clock: int, serializer: str) -> tuple[bytes, bytes]:
    """The content header and the body of a reply. Raises ``EncodeError`` when the reply cannot be encoded."""
    body, content_type, encoding = encode({node: reply}, serializer)
    properties = Properties(
        content_type=content_type,
        content_encoding=encoding,
        headers={"ticket": ticket, "clock": clock},
        delivery_mode=_TRANSIENT,
        priority=0,
    )
    return encode_header(properties, len(body)), body
