"""Finds out whether another mailbox is bound to the exchange for requests.

Part of ``amqp.mailbox``, in the master, used before this worker's own mailbox is bound: the broker returns a mandatory
message that reaches no queue. It must never send what a worker carries out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from turbo.amqp.mailbox_unsent import Message

if TYPE_CHECKING:
    from turbo.amqp.channel_calls import ChannelCalls
    from turbo.amqp.fast_connection import PublishConnection
    from turbo.amqp.outages import Outages
    from turbo.amqp.topology import Exchange


class MailboxProbe:
    """Asks the broker for other mailboxes."""

    def __init__(self, message: tuple[bytes, bytes] | None, outages: Outages) -> None:
        """``message``: header and body of a request that no worker carries out.

        None: others are assumed.
        """
        self._message = message
        self._outages = outages

    async def others_read(self, connection: PublishConnection, calls: ChannelCalls, exchange: Exchange) -> bool:
        """Return whether requests reach any mailbox. Raises ``ChannelGone``.

        A broker with an alarm no longer reads from a connection that has published, so then others are assumed.
        """
        if self._message is None or self._outages.blocked:
            return True
        returned: list[bool] = []
        calls.channel.add_on_return_callback(lambda *_: returned.append(True))
        Message(exchange, "", *self._message, keep=False).send(connection, calls.number, mandatory=True)
        # The broker answers in order: a return precedes the answer to any later request.
        await calls.limit(0)
        return not returned
