"""``Pipeline``: many messages of one thread over one connection, their confirms read together.

A confirmed message costs a round trip and often the broker's disk; a program that sends a thousand of them in a loop
need not wait a thousand times. ``app.publish.publishing`` opens one for a ``with app.pipeline()`` block and sends what
the thread publishes through it; at the end of the block everything is confirmed, or an error says that it is not.
Between ``app.publish.publishing`` and ``amqp.client.publisher``, which lends the connection. It must never be used by
two threads, nor by a forked copy of its process.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from turbo.amqp.client.connection import ClientConnection, ConnectionGone, Refused, Unconfirmed
from turbo.amqp.client.declaring import declare_all
from turbo.amqp.client.publisher import CONFIRM_TIMEOUT, ClientPublisher, unroutable
from turbo.exceptions import OperationalError
from turbo.policy.publish_retry import PublishRetry
from turbo.protocol.properties import decode_header

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from turbo.amqp.client.connection import Returned
    from turbo.amqp.topology import Queue

#: Messages that may be unconfirmed. Measured on a classic queue: a confirm takes 0.6 ms of one alone, 5 ms of 100.
WINDOW: Final = 100


#: The ids that the message carries as properties and as a header, and the size of its body.
_Identity = tuple[str | None, str | None, object, int]


@dataclass(slots=True, eq=False)
class _Message:
    """One message from ``publish`` until it is confirmed."""

    exchange: str
    routing_key: str
    header: bytes
    body: bytes
    declare: Sequence[Queue]
    mandatory: bool
    #: Its number on the connection that it was written to last.
    tag: int = 0
    #: Its queues were declared anew because it came back once.
    returned: bool = False


def _identity(header: bytes) -> _Identity:
    """Return what tells a message from others: RabbitMQ 4 returns it with another encoding of the same header."""
    properties, size = decode_header(header)
    return properties.correlation_id, properties.message_id, (properties.headers or {}).get("id"), size


class Pipeline:
    """See the module. ``window`` is how many messages may be unconfirmed; ``retry`` is for lost connections."""

    def __init__(self, publisher: ClientPublisher, *, window: int = WINDOW, retry: PublishRetry | None = None) -> None:
        if window < 1:
            raise ValueError(f"a pipeline's window is at least 1, not {window}")
        self._publisher = publisher
        self._window = window
        self._retry = PublishRetry() if retry is None else retry
        self._timeout = CONFIRM_TIMEOUT
        self._connection: ClientConnection | None = None
        #: To be written to the connection, in order.
        self._unwritten: deque[_Message] = deque()
        #: Written to it and not confirmed, in order.
        self._waiting: deque[_Message] = deque()
        #: What came back and is not confirmed yet, by what tells it from others.
        self._returned: dict[_Identity, Returned] = {}
        #: What went wrong with single messages, to be raised.
        self._failures: list[str] = []

    def publish(
        self,
        exchange: str,
        routing_key: str,
        header: bytes,
        body: bytes,
        *,
        declare: Sequence[Queue] = (),
        mandatory: bool = False,
        retry: PublishRetry | None = None,
        confirm_timeout: float | None = None,
    ) -> None:
        """Send one message; return when it is written and no more than the window are unconfirmed.

        A lost connection is made good as ``retry`` says, what was not confirmed being sent again: perhaps twice,
        never not at all. Raises OperationalError for this message or an earlier one of the pipeline.
        """
        if confirm_timeout is not None:
            self._timeout = confirm_timeout
        self._unwritten.append(_Message(exchange, routing_key, header, body, declare, mandatory))
        self._carry(self._advance, self._retry if retry is None else retry)
        self._report()

    def finish(self) -> None:
        """Wait until everything is confirmed, and give the connection back. Raises as :meth:`publish` does."""
        if self._unwritten or self._waiting:
            self._carry(self._settle_all, self._retry)
        self._give_back(healthy=True)
        self._report()

    def _report(self) -> None:
        """Raise what has gone wrong with single messages since this was last asked."""
        failures, self._failures = self._failures, []
        if failures:
            more = f", and {len(failures) - 1} more" if len(failures) > 1 else ""
            raise OperationalError(failures[0] + more)

    def _carry(self, step: Callable[[], None], retry: PublishRetry) -> None:
        """Do a step, again after lost connections. What else goes wrong ends everything that is on its way."""
        try:
            self._publisher.repeat(step, retry)
        except (ConnectionGone, Refused, Unconfirmed) as error:
            text = self._forget(str(error))
            self._failures.clear()
            raise OperationalError(text) from error
        except ValueError:
            raise
        except BaseException as error:
            # Interrupted perhaps in the middle of a frame: the connection cannot go on. The program may, and must hear
            # at the end what this has cost.
            self._failures.append(self._forget(type(error).__name__))
            raise

    def _advance(self) -> None:
        """Write what is not written; wait when too much is unconfirmed."""
        try:
            self._write()
            if self._waiting and len(self._waiting) >= self._window:
                # Half of the window at once: a wake-up for each confirm would cost more than the confirm.
                self._settle(self._waiting[len(self._waiting) // 2].tag)
        except ConnectionGone:
            self._start_over()
            raise

    def _settle_all(self) -> None:
        try:
            while self._unwritten or self._waiting:
                self._write()
                if self._waiting:
                    self._settle(self._waiting[-1].tag)
        except ConnectionGone:
            self._start_over()
            raise

    def _write(self) -> None:
        connection = self._connection
        if connection is None:
            connection = self._connection = self._publisher.acquire()
        while self._unwritten:
            message = self._unwritten[0]
            if self._waiting and any(queue.name not in connection.declared for queue in message.declare):
                # A refused declaration closes the channel, and with it go the confirms on their way.
                self._settle(self._waiting[-1].tag)
                message = self._unwritten[0]
            watch = message.mandatory or (bool(message.declare) and not message.exchange)
            try:
                declare_all(connection, message.declare)
                message.tag = connection.write(
                    message.exchange, message.routing_key, message.header, message.body, watch, self._timeout
                )
            except ValueError:
                self._unwritten.popleft()  # a name, or an argument of a queue, that AMQP cannot carry
                raise
            self._unwritten.popleft()
            if connection.confirms:
                self._waiting.append(message)

    def _settle(self, tag: int) -> None:
        """Wait for the confirms up to ``tag``, and take off what they end."""
        connection = self._connection
        if connection is None:
            return
        connection.wait(tag, self._timeout)
        up_to, returned = connection.answers()
        self._returned.update((_identity(each.header), each) for each in returned)
        while self._waiting and self._waiting[0].tag <= up_to:
            message = self._waiting.popleft()
            came = self._returned.pop(_identity(message.header), None) if self._returned else None
            if connection.refused(message.tag):
                self._failures.append(
                    f"{connection.address.label} could not take a message for {message.routing_key!r}"
                )
            elif came is not None and not self._send_again(connection, message):
                self._failures.append(unroutable(message.exchange, message.routing_key, came.fault))

    def _send_again(self, connection: ClientConnection, message: _Message) -> bool:
        """Nobody took the message. Once, declare its queues anew, which somebody has deleted, and send it again."""
        if message.returned or not message.declare:
            return False
        message.returned = True
        connection.declared.difference_update(queue.name for queue in message.declare)
        self._unwritten.append(message)
        return True

    def _start_over(self) -> None:
        """The connection is lost: everything unconfirmed is to be written to the next."""
        self._give_back(healthy=False)
        self._returned.clear()
        self._unwritten.extendleft(reversed(self._waiting))
        self._waiting.clear()

    def _forget(self, why: str) -> str:
        """Give up everything that is on its way; the text of the error that says so."""
        unsure = len(self._unwritten) + len(self._waiting)
        self._give_back(healthy=False)
        self._returned.clear()
        self._unwritten.clear()
        self._waiting.clear()
        return f"{why}; {unsure} messages of the pipeline are not confirmed"

    def _give_back(self, *, healthy: bool) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._publisher.release(connection, healthy)
