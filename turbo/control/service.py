"""Remote control: passes requests to their commands, and sends the replies.

Runs in the master beside its parts, from just before the worker is ready until its last task is settled. Before it:
``amqp.mailbox``, with header and body of each message. After it: the modules of commands; then the mailbox again. A
command answers at once or in a task of its own, so that a long answer delays no short one. Commands that need the app
run on a thread beside the loop. A message must never raise here: a malformed one is logged, cut to a fixed length, and
dropped.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from turbo.amqp.mailbox import Mailbox
from turbo.amqp.topology import Exchange
from turbo.control.app_thread import AppThread
from turbo.control.event_sender import EventSender
from turbo.control.events import Events
from turbo.control.inspect_commands import InspectCommands
from turbo.control.limit_commands import LimitCommands
from turbo.control.mingle import Mingle
from turbo.control.pool_commands import PoolCommands
from turbo.control.queue_commands import QueueCommands
from turbo.control.registry import NO_REPLY, Registry
from turbo.control.slow_reply import SlowReply
from turbo.control.task_commands import TaskCommands
from turbo.control.view import View
from turbo.control.worker_commands import WorkerCommands
from turbo.exceptions import EncodeError, TurboError
from turbo.log_format import printable
from turbo.protocol.clock import LogicalClock
from turbo.protocol.compression import decompress
from turbo.protocol.content import decode
from turbo.protocol.pidbox import Request, concerns, parse_reply, parse_request, reply_message, request_message
from turbo.protocol.properties import decode_header
from turbo.protocol.table import TableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from turbo.amqp.topology import Queue
    from turbo.control.app_commands import AppCommands
    from turbo.control.options import ControlOptions
    from turbo.master.main import Master

logger = logging.getLogger("celery.worker.control")

#: The largest request, in bytes. The longest ones hold another worker's 50,000 revoked ids.
_LARGEST: Final = 16 * 1024 * 1024
#: How many answers may be in progress at once.
_MOST: Final = 200
#: The longest error text, in characters, that is sent as a reply.
_LONGEST_ERROR: Final = 1000
#: Seconds that a starting worker waits until the mailbox is consumed.
_PATIENCE: Final = 2.0


class RemoteControl:
    """The remote control of one worker; a companion of its master."""

    def __init__(
        self, master: Master, app: AppCommands, control: ControlOptions, loop: asyncio.AbstractEventLoop
    ) -> None:
        blueprint, parts = master.blueprint, master.parts
        options, task_events = blueprint.options, parts.settlement.events
        self._options = control
        self._hostname = options.hostname
        self._thread = AppThread(loop, app)
        self._answers: set[asyncio.Task[None]] = set()
        self.clock = LogicalClock()
        self._mailbox = Mailbox(
            blueprint.write_addresses,
            _read_mailbox(control),
            self._receive,
            self._up,
            lambda others: self._mingle.reading(others),
            heartbeat=options.broker_heartbeat,
            tls=blueprint.tls,
            name=options.hostname,
            connection_timeout=options.broker_connection_timeout,
            outages=parts.outages,
            probe=_probe(control, options.hostname),
        )
        self._mingle = Mingle(
            loop, self._mailbox, control, self.clock, parts.revoking, parts.dispatcher, hostname=options.hostname
        )
        view = View(parts.ledger, parts.pool, parts.failure_documents, options.hostname)
        self._events = Events(
            loop, self._mailbox, control, self.clock,
            lambda: {"active": len(view.running()), "processed": parts.outcomes.started},
            hostname=options.hostname, interval=options.heartbeat_interval,
        )  # fmt: skip
        self._event_sender = EventSender(
            loop, self._mailbox, control, self.clock, task_events, hostname=options.hostname
        )
        restart = parts.pool_restart if control.pool_restarts else None
        if restart is not None:
            restart.on_tasks_changed.add(self._thread.tasks_changed)
        self._commands = Registry(
            (
                InspectCommands(blueprint, parts, view, self.clock).table(),
                TaskCommands(parts.revoking, self._thread.revoked).table(),
                LimitCommands(parts.rate_limits, parts.time_limits, parts.dispatcher, self._thread.limited).table(),
                WorkerCommands(master.shut_down, self._events, task_events).table(),
                PoolCommands(parts.resizing, parts.autoscaler, restart).table(),
                QueueCommands(parts.queue_changes, self._thread.queue_of, self._thread.queue_cancelled).table(),
            ),
            app,
        )
        self._used = control.mailbox is not None or options.heartbeat_interval is not None or task_events.on

    # -- life: a companion of the master -----------------------------------------------------------------

    async def start(self) -> None:
        """Connect and wait a moment, so that a worker that reports ready can answer."""
        if not self._used:
            return
        if self._options.unfollowed:
            logger.warning("%s", self._options.unfollowed)
        await self._mailbox.start()
        if not await self._mailbox.wait_ready(_PATIENCE):
            logger.warning("Remote control is not reachable yet; the worker starts without it and keeps trying")
            self._mingle.release()
            return
        await self._mingle.wait()

    async def stop(self, deadline: float) -> None:
        """Send worker-offline and the last answers, then close."""
        self._event_sender.flush()
        self._events.end()
        if self._answers:
            await asyncio.wait(self._answers, timeout=max(0.0, deadline - time.monotonic()))
        await self._mailbox.stop(deadline)
        for task in self._answers:
            task.cancel()

    def _up(self) -> None:
        self._events.begin()
        self._mingle.sending()
        self._event_sender.flush()

    # -- requests ----------------------------------------------------------------------------------------

    def _receive(self, header: bytes, body: bytes) -> None:
        """Handle one message from the mailbox."""
        self.clock.forward()
        try:
            request = self._understand(header, body)
        except (TableError, TurboError) as error:
            logger.error("A malformed message for remote control is dropped: %s", printable(error, 300))
            return
        except Exception as error:  # noqa: BLE001 - with pickle accepted, decoding may raise anything
            logger.error("A message for remote control cannot be decoded and is dropped: %.300r", error)
            return
        if request is not None:
            self._dispatch(request)

    def _understand(self, header: bytes, body: bytes) -> Request | None:
        """Return the request; None if it is for others, or an answer to this worker."""
        if len(body) > _LARGEST:
            raise TurboError(f"{len(body)} bytes are more than {_LARGEST}")
        properties, _size = decode_header(header)
        headers = properties.headers or {}
        self.clock.adjust(headers.get("clock"))
        is_reply = "ticket" in headers
        if is_reply and not self._mingle.expects(headers["ticket"]):
            return None
        compression = headers.get("compression")
        if isinstance(compression, str):
            body = decompress(body, compression, _LARGEST)
        value = decode(body, properties.content_type, properties.content_encoding, self._options.accept)
        if is_reply:
            self._mingle.take(*parse_reply(value))
            return None
        request = parse_request(value, headers.get("expires"))
        return request if concerns(request, self._hostname) else None

    def _dispatch(self, request: Request) -> None:
        """Call the command. As with Celery, the reply to an error is that error."""
        try:
            command = self._commands.own(request.method)
            if command is None:
                self._on_thread(request, self._commands.apps(request.method))
                return
            reply = command(**request.arguments)
        except Exception as error:  # noqa: BLE001 - commands get whatever arguments were sent
            self._failed(request, error)
            return
        if isinstance(reply, SlowReply):
            self._later(request, reply.before(request.expires))
        elif inspect.isawaitable(reply):
            self._later(request, reply)
        else:
            self._reply(request, reply)

    def _later(self, request: Request, reply: Awaitable[Any]) -> None:
        """Send the reply when it is ready."""

        async def answer() -> None:
            try:
                self._reply(request, await reply)
            except Exception as error:  # noqa: BLE001 - as above
                self._failed(request, error)

        if len(self._answers) >= _MOST:
            logger.error("A request for %.100r is dropped: %d others are not answered yet", request.method, _MOST)
            if inspect.iscoroutine(reply):
                reply.close()
            return
        task = asyncio.get_running_loop().create_task(answer(), name="remote-control")
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)

    def _on_thread(self, request: Request, command: Callable[..., Any]) -> None:
        """Run an app's command on the thread beside the loop."""
        self._later(request, self._thread.called(request.method, lambda: command(**request.arguments)))

    # -- replies -----------------------------------------------------------------------------------------

    def _failed(self, request: Request, error: Exception) -> None:
        logger.error("pidbox command error: %.500r", error, exc_info=not isinstance(error, (KeyError, TurboError)))
        self._reply(request, {"error": repr(error)})

    def _reply(self, request: Request, reply: object) -> None:
        where = request.reply_to
        if where is None or reply is NO_REPLY:
            return
        message = self._encoded(request, reply)
        if message is None:
            return
        header, body = message
        self._mailbox.send(Exchange(where.exchange, durable=False), where.routing_key, header, body)

    def _encoded(self, request: Request, reply: object) -> tuple[bytes, bytes] | None:
        """Return header and body of a reply, or of the encoding error.

        None if neither can be sent. If the app's serializer cannot encode it at all, it is sent as JSON, which most
        clients accept.
        """
        own, clock = self._options.serializer, self.clock.forward()
        failed: Exception | None = None
        for serializer, plain in ((own, False), (own, True), ("json", False), ("json", True)):
            value = {"error": repr(failed)[:_LONGEST_ERROR]} if plain else reply
            try:
                return reply_message(self._hostname, value, request.ticket, clock, serializer)
            except Exception as error:  # noqa: BLE001 - serializers are the app's, and the reply may be
                if failed is None:
                    failed = error
                    logger.error("The reply to %.100r cannot be encoded: %.300s", request.method, error)
        return None


def _read_mailbox(control: ControlOptions) -> Queue | None:
    """Return the mailbox with all that it is bound to."""
    if control.mailbox is None or control.replies is None:
        return control.mailbox
    return replace(control.mailbox, bindings=(control.replies,))


def _probe(control: ControlOptions, hostname: str) -> tuple[bytes, bytes] | None:
    """Return a request for this worker alone, which others ignore.

    This worker sends it before it reads any.
    """
    if control.replies is None:
        return None
    try:
        return request_message(Request("ping", destination=(hostname,)), 0, control.serializer)
    except EncodeError:
        return None
