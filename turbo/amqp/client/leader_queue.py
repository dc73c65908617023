"""Elects one of several processes by a queue of the broker.

The queue keeps a value that each leader leaves to the next.

Used by ``beat.leadership``, in the beat process, with a connection of its own. The queue has a single active consumer:
the broker delivers to one of its consumers, and to the next as soon as that one's channel or connection is gone. It
holds one message, the value. The active consumer gets it and keeps it unacknowledged; it is the leader. To change the
value, the leader publishes a new message, and acknowledges the old one when the new one has come.

Why there is one leader. The broker takes nothing more from a channel that it has given up, and returns the channel's
messages to the queue, in their order, before it delivers to the next consumer. So a value that was confirmed is what
the next leader gets, and a process that has lost the lead cannot store another value: it learns that here, before it
acts. A leader that stops must give up its channel in one step too: one that cancelled its consumer first, or returned
single messages, would let the next one lead without the latest value.

A quorum queue counts how often it delivers a message again, and drops it at a limit. So a leader that gets such a value
stores it anew before it acts: leaders that die one after the other, before they store anything, do not use up the
limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from turbo.amqp.connect_errors import explain
from turbo.amqp.url import parameters
from turbo.exceptions import ImproperlyConfigured, OperationalError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from turbo.amqp.tls import TlsOptions
    from turbo.amqp.url import BrokerAddress

#: Seconds for connecting to one broker, including TLS and login.
_PATIENCE: Final = 15.0
#: Seconds. The broker gives a leader up that has been silent for two of these; a killed one at once.
_HEARTBEAT: Final = 5.0
#: Seconds that the broker may block publishers before the lead is given up.
_BLOCKED: Final = 30.0
#: Reply codes: no permission, other properties. Trying again would not help.
_PERMANENT: Final = (403, 406)
#: The message header with the number of the value: the highest is the latest.
_NUMBER: Final = "turbo-number"
_PERSISTENT: Final = 2


@dataclass(frozen=True, slots=True)
class _Held:
    """A delivered value."""

    number: int
    tag: int
    body: bytes
    redelivered: bool


class LeaderQueue:
    """One candidate. :meth:`connect` first.

    After an OperationalError, :meth:`close` and connect again.
    """

    def __init__(self, addresses: Sequence[BrokerAddress], tls: TlsOptions | None, queue: str, queue_type: str) -> None:
        self.queue = queue
        self._addresses = addresses
        self._tls = tls
        self._arguments: Mapping[str, object] = {"x-single-active-consumer": True, "x-queue-type": queue_type}
        self._connection: Any = None
        self._channel: Any = None
        self._held: _Held | None = None
        #: The number of the value that was published last.
        self._number = 0
        self._cancelled = False
        #: Whether this candidate is the leader, as far as it knows.
        self.leads = False

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._connection is not None

    @property
    def value(self) -> bytes:
        """The value that the leader before this one left; empty if there was none."""
        return b"" if self._held is None else self._held.body

    def connect(self) -> None:
        """Become a candidate.

        Raises OperationalError, and ImproperlyConfigured if the queue cannot be used.
        """
        import pika  # pika costs a program that only sends tasks 60 ms of start-up

        candidates = [
            parameters(
                address,
                heartbeat=_HEARTBEAT,
                tls=self._tls,
                stack_timeout=_PATIENCE,
                blocked_connection_timeout=_BLOCKED,
                name="turbo beat",
            )
            for address in self._addresses
        ]
        with _Translated(self.queue):
            self._connection = pika.BlockingConnection(candidates)
            channel = self._channel = self._connection.channel()
            channel.confirm_delivery()
            channel.add_on_cancel_callback(self._on_cancel)
            declared = channel.queue_declare(self.queue, durable=True, arguments=self._arguments)
            if declared.method.message_count == 0:
                # The first candidate of all; or there is a leader, who takes this one away.
                self._publish(0, b"")
            channel.basic_consume(self.queue, self._on_value)

    def wait(self, seconds: float) -> None:
        """Serve the connection for so long; ``leads`` may change.

        Raises OperationalError if the lead can be lost.
        """
        with _Translated(self.queue):
            self._connection.process_data_events(time_limit=seconds)
            if self._cancelled:
                raise OperationalError(f"the queue {self.queue} was deleted")
            if self._held is not None and not self.leads:
                # The answer comes after all values that are in the queue now: the latest is among them.
                self._channel.queue_declare(self.queue, passive=True)
                self._connection.process_data_events(time_limit=0)
                self.leads = True
                if self._held.redelivered:
                    self.store(self._held.body)  # its delivery count begins again

    def store(self, value: bytes) -> None:
        """Replace the value; return when the broker has confirmed it.

        Raises OperationalError if the lead was lost.
        """
        if self._held is None or not self.leads:
            raise OperationalError(f"this process does not lead by the queue {self.queue}")
        with _Translated(self.queue):
            self._publish(max(self._held.number, self._number) + 1, value)
            # Takes the new value in and the old one away.
            self._connection.process_data_events(time_limit=0)

    def close(self) -> None:
        """Stop being a candidate; the next one leads at once."""
        from pika.exceptions import AMQPError

        connection, self._connection = self._connection, None
        self._channel, self._held, self._number = None, None, 0
        self.leads = self._cancelled = False
        if connection is None or not connection.is_open:
            return
        # pika would return what it has not passed on, and cancel the consumer, before it closes each channel it knows.
        connection._impl._channels.clear()  # noqa: SLF001 - there is no public way to close the connection alone
        try:
            connection.close()
        except (AMQPError, OSError):
            # It is gone already, which is all that was wanted.
            return

    def _publish(self, number: int, value: bytes) -> None:
        import pika

        self._number = number
        properties = pika.BasicProperties(delivery_mode=_PERSISTENT, headers={_NUMBER: number})
        # Mandatory: without the queue the broker would confirm it and keep nothing.
        self._channel.basic_publish("", self.queue, value, properties, mandatory=True)

    def _on_value(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        """Keep the latest value; take others out of the queue."""
        number = (properties.headers or {}).get(_NUMBER, 0)
        new = _Held(number if isinstance(number, int) else 0, method.delivery_tag, body, method.redelivered)
        old = self._held
        if old is not None and old.number > new.number:
            old, new = new, old
        self._held = new
        if old is not None:
            channel.basic_ack(old.tag)

    def _on_cancel(self, _method: object) -> None:
        self._cancelled = True


class _Translated:
    """A context manager that raises pika's errors as turbo's."""

    def __init__(self, queue: str) -> None:
        self._queue = queue

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        from pika.exceptions import AMQPError, ChannelClosedByBroker

        if isinstance(error, ChannelClosedByBroker) and error.reply_code in _PERMANENT:
            raise ImproperlyConfigured(f"the queue {self._queue} cannot be used: {error.reply_text}") from error
        if isinstance(error, (AMQPError, OSError)):
            raise OperationalError(explain(error)) from error
