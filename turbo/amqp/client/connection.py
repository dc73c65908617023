"""One blocking connection to a broker, for publishing from an ordinary process.

``amqp.client.publisher`` keeps a pool of these connections; one thread uses one at a time. The connection speaks AMQP
over a plain socket: a publisher needs only a dozen methods, and the time of ``delay()`` is part of a web request. It
negotiates no heartbeats, since there is no thread to send them: TCP keep-alives and a check of the socket before each
use detect a dead connection. It must never be used by a forked copy of its process.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import ssl
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from turbo.amqp.client import methods
from turbo.amqp.client.methods import BadFrame, Confirmations, Fault, FrameReader
from turbo.amqp.publish.frames import publish_frames, publish_method
from turbo.amqp.tls import TlsOptions, ssl_context
from turbo.exceptions import OperationalError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from turbo.amqp.url import BrokerAddress

logger = logging.getLogger("turbo.amqp.client.publisher")

#: The only channel of a connection.
CHANNEL: Final = 1
_FRAME_MAX: Final = 131072
_CHUNK: Final = 65536
#: Seconds to wait for the answer to a declaration: a quorum queue first elects its leader.
_ANSWER_TIMEOUT: Final = 20.0
_KEEP_IDLE, _KEEP_INTERVAL, _KEEP_COUNT = 30, 10, 3
#: Milliseconds that sent bytes may stay unacknowledged before the kernel closes the connection.
_USER_TIMEOUT: Final = 15_000
_CAPABILITIES: Final[Mapping[str, object]] = {
    "publisher_confirms": True,
    "basic.nack": True,
    "connection.blocked": True,
    "authentication_failure_close": True,
}


class ConnectionGone(OperationalError):
    """The connection was lost or closed.

    Messages in transit may or may not have arrived.
    """


class Refused(OperationalError):
    """The broker refused the request and closed the channel.

    For example an exchange does not exist, an argument is wrong, or the user has no permission.
    """

    def __init__(self, fault: Fault) -> None:
        super().__init__(f"{fault.code} {fault.text}")
        self.code = fault.code


class Unconfirmed(OperationalError):
    """The broker did not confirm in time.

    Publishing again could send the message twice.
    """


@dataclass(slots=True)
class Returned:
    """A mandatory message that no queue takes: the reason and its content header.

    The header's payload is empty until that frame has arrived.
    """

    fault: Fault
    header: bytes = b""


def _open_socket(address: BrokerAddress, tls: TlsOptions | None, timeout: float) -> socket.socket:
    """Connect, with TLS if asked for.

    Keep-alives let the kernel notice a dead peer.
    """
    sock = socket.create_connection((address.host, address.port), timeout)
    try:
        for level, option, value in (
            (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEP_IDLE),
            (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEP_INTERVAL),
            (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _KEEP_COUNT),
            (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT),
        ):
            sock.setsockopt(level, option, value)
        if address.tls or tls is not None:
            options = tls or TlsOptions()
            name = options.server_hostname or address.host
            return ssl_context(options).wrap_socket(sock, server_hostname=name)
    except BaseException:
        sock.close()
        raise
    return sock


class ClientConnection:
    """An open connection with one channel.

    ``close`` or ``abort`` ends it; abort it after any error.
    """

    def __init__(
        self,
        address: BrokerAddress,
        *,
        tls: TlsOptions | None,
        timeout: float,
        confirms: bool,
        properties: Mapping[str, object],
    ) -> None:
        """Connect and log in within ``timeout`` seconds. Raises ConnectionGone."""
        self.address = address
        #: Whether the broker confirms what is published.
        self.confirms = confirms
        self._timeout = timeout
        self._frame_max = _FRAME_MAX
        self._reader = FrameReader(_FRAME_MAX + methods.FRAME_OVERHEAD)
        self._inbox: list[tuple[int, bytes]] = []
        self._confirmations = Confirmations()
        self._returned: list[Returned] = []
        self._blocked: str | None = None
        #: Names of the queues that this connection has declared.
        self.declared: set[str] = set()
        deadline = time.monotonic() + timeout
        try:
            self._socket = _open_socket(address, tls, timeout)
        except (OSError, ValueError) as exc:
            raise ConnectionGone(f"cannot connect to {address.label}: {exc}") from exc
        try:
            self._log_in(deadline, properties)
        except BaseException:
            self.abort()
            raise

    def _log_in(self, deadline: float, properties: Mapping[str, object]) -> None:
        address = self.address
        self._send(methods.PROTOCOL_HEADER)
        self._await(methods.CONNECTION_START, deadline)
        self._send(methods.start_ok(address.user, address.password, {**properties, "capabilities": _CAPABILITIES}))
        channels, frame_max = methods.read_tune(self._await(methods.CONNECTION_TUNE, deadline))
        self._frame_max = min(frame_max or _FRAME_MAX, _FRAME_MAX)
        self._send(methods.tune_ok(channels, self._frame_max) + methods.open_connection(address.vhost))
        self._await(methods.CONNECTION_OPEN_OK, deadline)
        self._open_channel(deadline)

    def reopen_channel(self) -> None:
        """Open a channel after the broker closed the last one.

        Messages unconfirmed there stay unconfirmed.
        """
        self._open_channel(time.monotonic() + _ANSWER_TIMEOUT)

    def _open_channel(self, deadline: float) -> None:
        self._confirmations = Confirmations()
        self.ask(methods.method(CHANNEL, methods.CHANNEL_OPEN, b"\0"), methods.CHANNEL_OPEN_OK, deadline)
        if self.confirms:
            self.ask(methods.method(CHANNEL, methods.CONFIRM_SELECT, b"\0"), methods.CONFIRM_SELECT_OK, deadline)

    # -- publishing ------------------------------------------------------------------------------------------

    def publish(
        self, exchange: str, routing_key: str, header: bytes, body: bytes, mandatory: bool, timeout: float
    ) -> Fault | None:
        """Publish one message and, with confirms, wait ``timeout`` seconds for its own.

        Returns the reason if the broker returned a mandatory message, else None. Raises ConnectionGone, Refused,
        Unconfirmed, and OperationalError for a negative confirm.
        """
        self._returned.clear()
        tag = self.write(exchange, routing_key, header, body, mandatory, timeout)
        if not self.confirms:
            return None
        self.wait(tag, timeout)
        if self._confirmations.refused(tag):
            raise OperationalError(f"{self.address.label} could not take the message (basic.nack)")
        return self._returned[-1].fault if self._returned else None

    def write(
        self, exchange: str, routing_key: str, header: bytes, body: bytes, mandatory: bool, timeout: float
    ) -> int:
        """Send one message with one write and return its delivery tag.

        Wait for no confirm. Raises ConnectionGone, Unconfirmed when the broker does not read it within ``timeout``
        seconds, and ValueError for names and headers that AMQP cannot carry.
        """
        method = publish_method(exchange, routing_key, mandatory)
        self._send(b"".join(publish_frames(CHANNEL, method, header, body, self._frame_max)), timeout)
        return self._confirmations.published()

    def wait(self, tag: int, timeout: float) -> None:
        """Read until every message up to ``tag`` is confirmed, positively or not.

        Raises Unconfirmed when that takes longer than ``timeout`` seconds, ConnectionGone, Refused.
        """
        deadline = time.monotonic() + timeout
        while self._confirmations.up_to < tag:
            if not self._receive(deadline):
                alarm = f": it blocks publishers ({self._blocked})" if self._blocked is not None else ""
                raise Unconfirmed(f"no confirm from {self.address.label} in {timeout:g} s{alarm}")
            self._refuse_if_closed()

    def answers(self) -> tuple[int, list[Returned]]:
        """Return the tag up to which all is confirmed, and the newly returned messages.

        Does not read the socket.
        """
        # A returned message without its content header cannot be identified yet; its confirm follows the header.
        whole = [each for each in self._returned if each.header]
        self._returned = [each for each in self._returned if not each.header]
        return self._confirmations.up_to, whole

    def refused(self, tag: int) -> bool:
        """Whether the broker confirmed ``tag`` negatively; True only the first time."""
        return self._confirmations.refused(tag)

    # -- the wire --------------------------------------------------------------------------------------------

    def usable(self) -> bool:
        """Whether the connection still works; does not wait.

        Costs one system call if nothing has arrived.
        """
        try:
            readable = select.select((self._socket,), (), (), 0)[0]
            while readable and self._receive(0.0):
                readable = select.select((self._socket,), (), (), 0)[0]
            self._refuse_if_closed()
        except (OSError, ValueError, OperationalError) as exc:
            logger.debug("a pooled connection is gone: %s", exc)
            return False
        return True

    def _send(self, data: bytes, timeout: float | None = None) -> None:
        try:
            self._socket.settimeout(self._timeout if timeout is None else timeout)
            self._socket.sendall(data)
        except TimeoutError as exc:
            blocked = f": it blocks publishers ({self._blocked})" if self._blocked is not None else ""
            raise Unconfirmed(f"{self.address.label} does not read what is sent{blocked}") from exc
        except OSError as exc:
            raise ConnectionGone(self._why_lost(exc)) from exc

    def _why_lost(self, exc: OSError) -> str:
        """Return the broker's reason if its close is unread, else the system's error."""
        with contextlib.suppress(ConnectionGone):
            self._receive(0.0)
        for number, arguments in self._inbox:
            if number == methods.CONNECTION_CLOSE:
                fault = methods.read_fault(arguments)
                return f"{self.address.label} closed the connection: {fault.code} {fault.text}"
        return f"the connection to {self.address.label} was lost: {exc}"

    def _receive(self, deadline: float) -> bool:
        """Read what has arrived, waiting until ``deadline`` (monotonic).

        Returns False if nothing came.
        """
        try:
            self._socket.settimeout(max(deadline - time.monotonic(), 0.0))
            data = self._socket.recv(_CHUNK)
        except (BlockingIOError, TimeoutError, ssl.SSLWantReadError):
            return False
        except OSError as exc:
            raise ConnectionGone(f"the connection to {self.address.label} was lost: {exc}") from exc
        if not data:
            raise ConnectionGone(f"{self.address.label} closed the connection")
        try:
            for kind, _channel, payload in self._reader.feed(data):
                if kind == methods.METHOD:
                    self._on_method(int.from_bytes(payload[:4], "big"), payload[4:])
                elif kind == methods.HEADER and self._returned:
                    # A publisher gets no other message with a content header than a returned one.
                    self._returned[-1].header = payload
        except (BadFrame, struct.error, IndexError) as exc:
            raise ConnectionGone(f"{self.address.label}: {exc}") from exc
        return True

    def _on_method(self, number: int, arguments: bytes) -> None:
        if number in (methods.BASIC_ACK, methods.BASIC_NACK):
            tag, multiple = methods.read_ack(arguments)
            self._confirmations.settle(tag, multiple, number == methods.BASIC_NACK)
        elif number == methods.BASIC_RETURN:
            self._returned.append(Returned(methods.read_fault(arguments)))
        elif number == methods.CONNECTION_BLOCKED:
            self._blocked = methods.read_short_string(arguments, 0)
            logger.warning("%s blocks publishers: %s", self.address.label, self._blocked)
        elif number == methods.CONNECTION_UNBLOCKED:
            self._blocked = None
        else:
            self._inbox.append((number, arguments))

    def _refuse_if_closed(self) -> None:
        """If the broker closed the channel or connection, answer and raise its reason."""
        for number, arguments in self._inbox:
            if number == methods.CHANNEL_CLOSE:
                self._inbox.clear()
                self._send(methods.method(CHANNEL, methods.CHANNEL_CLOSE_OK))
                raise Refused(methods.read_fault(arguments))
            if number == methods.CONNECTION_CLOSE:
                fault = methods.read_fault(arguments)
                self._inbox.clear()
                with contextlib.suppress(OSError):
                    self._socket.sendall(methods.method(0, methods.CONNECTION_CLOSE_OK))
                raise ConnectionGone(f"{self.address.label} closed the connection: {fault.code} {fault.text}")

    def ask(self, frame: bytes, answer: int, deadline: float | None = None) -> bytes:
        """Send a method and return the arguments of its ``answer``.

        It must come before ``deadline`` (monotonic). Raises ConnectionGone, Refused.
        """
        self._send(frame)
        return self._await(answer, time.monotonic() + _ANSWER_TIMEOUT if deadline is None else deadline)

    def _await(self, answer: int, deadline: float) -> bytes:
        """Wait for the method ``answer`` and return its arguments."""
        while True:
            self._refuse_if_closed()
            for index, (number, arguments) in enumerate(self._inbox):
                if number == answer:
                    del self._inbox[index]
                    return arguments
            if not self._receive(deadline):
                raise ConnectionGone(f"{self.address.label} did not answer in time")

    def close(self, timeout: float = 1.0) -> None:
        """Close the connection, waiting up to ``timeout`` seconds for the answer."""
        try:
            self._timeout = timeout
            self.ask(methods.close(0), methods.CONNECTION_CLOSE_OK, time.monotonic() + timeout)
        except OperationalError as exc:
            logger.debug("closing %s: %s", self.address.label, exc)
        self.abort()

    def abort(self) -> None:
        """Close the socket and send nothing, as a forked process must."""
        with contextlib.suppress(OSError):
            self._socket.close()
