"""Asks other workers for their revoked ids and logical clock.

It asks at start and after each reconnect.

Runs in the master, for ``control.service``. Before it: ``amqp.mailbox``, which says when requests are read and whether
there are other mailboxes. After it: ``master.delivery.revoking`` and the logical clock. The answers arrive in the
worker's own mailbox.

At start no task begins before the others have answered: a task that was revoked before this worker started is discarded
instead. That takes no time if there is no other worker, a tenth of a second if they answer, and one second, Celery's
timeout, if one does not. The worker consumes meanwhile. Later answers count as well; then a task may already run. It
must never trust an answer: a malformed one is named and skipped.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from typing import TYPE_CHECKING, Final

from turbo.exceptions import EncodeError
from turbo.log_format import printable
from turbo.protocol.hello import answer_parts
from turbo.protocol.pidbox import PidboxError, ReplyTo, Request, request_message

if TYPE_CHECKING:
    from turbo.amqp.mailbox import Mailbox
    from turbo.control.options import ControlOptions
    from turbo.master.delivery.dispatcher import Dispatcher
    from turbo.master.delivery.revoking import Revoking
    from turbo.protocol.clock import LogicalClock

logger = logging.getLogger("celery.worker.consumer.mingle")

#: Seconds for the first answer, as in Celery.
_TIMEOUT: Final = 1.0
#: Seconds without a further answer after which there is none to wait for: workers answer within milliseconds.
_QUIET: Final = 0.1
#: Answers that are taken, so that their number is bounded.
_MOST: Final = 1_000
#: The dispatcher's reason to pause.
_REASON: Final = "mingle"


class Mingle:
    """The exchange of one worker with the others."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        mailbox: Mailbox,
        options: ControlOptions,
        clock: LogicalClock,
        revoking: Revoking,
        dispatcher: Dispatcher,
        *,
        hostname: str,
    ) -> None:
        """Hold all tasks until :meth:`wait` has returned, if the worker mingles."""
        self._loop = loop
        self._mailbox = mailbox
        self._options = options
        self._clock = clock
        self._revoking = revoking
        self._dispatcher = dispatcher
        self._hostname = hostname
        self._over = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._ends = 0.0
        #: Names the newest request; answers to others are ignored.
        self._ticket = ""
        self._unsent = False
        self._nodes: set[str] = set()
        if options.replies is not None:
            dispatcher.pause(_REASON)

    async def wait(self) -> None:
        """Wait for the answers of the first exchange, a second at most.

        From then on tasks may begin.
        """
        if self._options.replies is None:
            return
        try:
            async with asyncio.timeout(_TIMEOUT):
                await self._over.wait()
        except TimeoutError:
            logger.debug("mingle: the connection was lost meanwhile")
        self._dispatcher.resume(_REASON)

    def release(self) -> None:
        """Let tasks begin without answers."""
        self._dispatcher.resume(_REASON)

    # -- asking ------------------------------------------------------------------------------------------

    def reading(self, others: bool) -> None:
        """Begin an exchange: this worker's mailbox is read again.

        ``others``: there may be other mailboxes.
        """
        if self._options.replies is None:
            return
        logger.info("mingle: searching for neighbors")
        self._ticket, self._nodes = str(uuid.uuid4()), set()
        if not others:
            self._end()
            return
        self._unsent = True
        self._ends = self._loop.time() + _TIMEOUT
        self._arm(_TIMEOUT)
        self.sending()

    def sending(self) -> None:
        """Send the request if there is one to send.

        Call this when messages can be sent again.
        """
        replies = self._options.replies
        if replies is None or not self._unsent or not self._mailbox.can_send:
            return
        self._unsent = False
        request = Request(
            "hello",
            {"from_node": self._hostname, "revoked": self._revoking.revoked.ids()},
            reply_to=ReplyTo(replies.exchange.name, replies.routing_key),
            ticket=self._ticket,
        )
        try:
            header, body = request_message(request, self._clock.forward(), self._options.serializer)
        except EncodeError as error:
            logger.error("mingle: the request cannot be encoded, so no worker is asked: %s", error)
            return
        mailbox = self._options.mailbox
        assert mailbox is not None
        self._mailbox.send(mailbox.exchange, "", header, body)

    # -- answers -----------------------------------------------------------------------------------------

    def expects(self, ticket: object) -> bool:
        """Whether a reply with this ticket answers the newest request."""
        return bool(self._ticket) and ticket == self._ticket

    def take(self, node: str, answer: object) -> None:
        """Adopt what another worker knows. This worker's own answer is None."""
        if not answer or node == self._hostname or node in self._nodes or len(self._nodes) >= _MOST:
            return
        self._nodes.add(node)
        logger.debug("mingle: processing reply from %s", printable(node))
        try:
            found, clock = answer_parts(answer)
        except PidboxError as error:
            logger.error("mingle: sync with %s failed, its answer is skipped: %s", printable(node), printable(error))
        else:
            if found.skipped:
                logger.warning("mingle: %d of the revoked ids of %s are no ids", found.skipped, printable(node))
            self._clock.adjust(clock)
            revoked = self._revoking.revoked
            new = [task_id for task_id in found.ids if task_id not in revoked]
            if new:
                self._revoking.revoke(new)
        if self._timer is not None:
            self._arm(min(_QUIET, self._ends - self._loop.time()))

    def _arm(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(max(0.0, seconds), self._end)

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._nodes:
            logger.info("mingle: sync with %s nodes", len(self._nodes))
            logger.info("mingle: sync complete")
        else:
            logger.info("mingle: all alone")
        self._over.set()
