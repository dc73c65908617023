"""Publishes many messages of one thread and reads their confirms together.

It uses one connection.

A confirm costs a round trip and often a disk write of the broker. A program that sends a thousand messages in a loop
need not wait a thousand times. ``app.publish.publishing`` opens a ``Pipeline`` for a ``with app.pipeline()`` block and
sends through it what the thread publishes; at the end of the block everything is confirmed, or an error is raised.
``amqp.client.publisher`` provides the connection. A pipeline must never be used by two threads, nor by a forked copy of
its process.
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
    from turbo.amqp.topology import Exchange, Queue

#: Most unconfirmed messages. Measured on a classic queue: 0.6 ms for the confirm of one message, 5 ms for 100.
WINDOW: Final = 100


#: A message's correlation id, message id, ``id`` header and body size.
_Identity = tuple[str | None, str | None, object, int]


@dataclass(slots=True, eq=False)
class _Message:
    """One message from ``publish`` until it is confirmed."""

    exchange: str
    routing_key: str
    header: bytes
    body: bytes
    declare: Sequence[Queue | Exchange]
    mandatory: bool
    #: Its delivery tag on the connection to which it was last written.
    tag: int = 0
    #: Whether it was returned once and its queues were declared again.
    returned: bool = False


def _identity(header: bytes) -> _Identity:
    """Return what identifies a message.

    RabbitMQ 4 encodes the header of a returned message differently.
    """
    properties, size = decode_header(header)
    return properties.correlation_id, properties.message_id, (properties.headers or {}).get("id"), size


class Pipeline:
    """Publishes messages of one thread, at most ``window`` of them unconfirmed.

    ``retry`` is the policy for lost connections.
    """

    def __init__(self, publisher: ClientPublisher, *, window: int = WINDOW, retry: PublishRetry | None = None) -> None:
        if window < 1:
            raise ValueError(f"a pipeline's window must be at least 1, not {window}")
        self._publisher = publisher
        self._window = window
        self._retry = PublishRetry() if retry is None else retry
        self._timeout = CONFIRM_TIMEOUT
        self._connection: ClientConnection | None = None
        #: Messages to write to the connection, in order.
        self._unwritten: deque[_Message] = deque()
        #: Messages that were written and are not confirmed, in order.
        self._waiting: deque[_Message] = deque()
        #: Returned messages that are not confirmed yet, by identity. The broker confirms a message after returning it.
        self._returned: dict[_Identity, Returned] = {}
        #: Errors of single messages, not raised yet.
        self._failures: list[str] = []

    def publish(
        self,
        exchange: str,
        routing_key: str,
        header: bytes,
        body: bytes,
        *,
        declare: Sequence[Queue | Exchange] = (),
        mandatory: bool = False,
        retry: PublishRetry | None = None,
        confirm_timeout: float | None = None,
    ) -> None:
        """Send one message.

        Return when it is written and at most ``window`` messages are unconfirmed. After a lost connection, unconfirmed
        messages are sent again as ``retry`` says: a message may arrive twice but is not lost. Raises OperationalError
        for this message or an earlier one of the pipeline.
        """
        if confirm_timeout is not None:
            self._timeout = confirm_timeout
        self._unwritten.append(_Message(exchange, routing_key, header, body, declare, mandatory))
        self._repeat(self._advance, self._retry if retry is None else retry)
        self._report()

    def finish(self) -> None:
        """Wait until everything is confirmed, and release the connection.

        Raises as :meth:`publish` does.
        """
        if self._unwritten or self._waiting:
            self._repeat(self._settle_all, self._retry)
        self._release(healthy=True)
        self._report()

    def _report(self) -> None:
        """Raise the errors of single messages that have not been raised yet."""
        failures, self._failures = self._failures, []
        if failures:
            more = f", and {len(failures) - 1} more" if len(failures) > 1 else ""
            raise OperationalError(failures[0] + more)

    def _repeat(self, step: Callable[[], None], retry: PublishRetry) -> None:
        """Run ``step``, again after lost connections.

        Any other error drops all unconfirmed messages.
        """
        try:
            self._publisher.repeat(step, retry)
        except (ConnectionGone, Refused, Unconfirmed) as error:
            text = self._drop_all(str(error))
            self._failures.clear()
            raise OperationalError(text) from error
        except ValueError:
            # Only this message is impossible, and nothing of it was written: the others go on.
            raise
        except BaseException as error:
            # The interruption may have come in the middle of a frame, so the connection is unusable. The program may go
            # on, so the end of the pipeline has to report the dropped messages.
            self._failures.append(self._drop_all(type(error).__name__))
            raise

    def _advance(self) -> None:
        """Write the waiting messages; if the window is full, wait for confirms."""
        try:
            self._write()
            if self._waiting and len(self._waiting) >= self._window:
                # Wait for half of the window at once: a wake-up for each confirm would cost more than the confirm.
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
                # A refused declaration closes the channel and loses pending confirms, so wait for those first.
                self._settle(self._waiting[-1].tag)
                message = self._unwritten[0]
            watch = message.mandatory or (bool(message.declare) and not message.exchange)
            try:
                declare_all(connection, message.declare)
                message.tag = connection.write(
                    message.exchange, message.routing_key, message.header, message.body, watch, self._timeout
                )
            except ValueError:
                self._unwritten.popleft()  # AMQP cannot carry a name, or an argument of a queue
                raise
            self._unwritten.popleft()
            if connection.confirms:
                self._waiting.append(message)

    def _settle(self, tag: int) -> None:
        """Wait for the confirms up to ``tag`` and remove the messages that they end."""
        connection = self._connection
        if connection is None:
            return
        connection.wait(tag, self._timeout)
        up_to, returned = connection.answers()
        self._returned.update((_identity(each.header), each) for each in returned)
        while self._waiting and self._waiting[0].tag <= up_to:
            message = self._waiting.popleft()
            returned_one = self._returned.pop(_identity(message.header), None) if self._returned else None
            if connection.refused(message.tag):
                self._failures.append(
                    f"{connection.address.label} could not take a message for {message.routing_key!r}"
                )
            elif returned_one is not None and not self._send_again(connection, message):
                self._failures.append(unroutable(message.exchange, message.routing_key, returned_one.fault))

    def _send_again(self, connection: ClientConnection, message: _Message) -> bool:
        """Queue a returned message again, once; return whether that was done.

        Its queues are declared again first: they were deleted after this connection declared them.
        """
        if message.returned or not message.declare:
            return False
        message.returned = True
        connection.declared.difference_update(queue.name for queue in message.declare)
        self._unwritten.append(message)
        return True

    def _start_over(self) -> None:
        """After a lost connection: queue all unconfirmed messages for the next one."""
        self._release(healthy=False)
        self._returned.clear()
        self._unwritten.extendleft(reversed(self._waiting))
        self._waiting.clear()

    def _drop_all(self, why: str) -> str:
        """Drop all unconfirmed messages; return the text of the error that reports it."""
        unsure = len(self._unwritten) + len(self._waiting)
        self._release(healthy=False)
        self._returned.clear()
        self._unwritten.clear()
        self._waiting.clear()
        return f"{why}; {unsure} messages of the pipeline are not confirmed"

    def _release(self, *, healthy: bool) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._publisher.release(connection, healthy)
