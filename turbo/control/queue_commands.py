"""The commands that change what the worker consumes from.

Run on the master's loop for ``control.service``; ``master.delivery.queue_changes`` carries them out. Replies are
Celery's, word for word, where Celery has the command. The reply comes after the change, or after it was noted for the
next connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from turbo.log_format import printable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from turbo.amqp.topology import Queue
    from turbo.master.delivery.queue_changes import QueueChanges

    Reply = dict[str, str]

#: The longest name of a queue, in bytes.
_LONGEST: Final = 255


class QueueCommands:
    """Answers the commands about the queues of one worker."""

    def __init__(
        self,
        changes: QueueChanges,
        queue_of: Callable[[str, dict[str, Any]], Awaitable[Queue]],
        deselect: Callable[[str], Awaitable[None]],
    ) -> None:
        """``queue_of`` returns the app's queue of a name, or makes it from options.

        ``deselect`` tells the app.
        """
        self._changes = changes
        self._queue_of = queue_of
        self._deselect = deselect

    def table(self) -> Mapping[str, Callable[..., Any]]:
        """Return the commands by name."""
        return {
            "add_consumer": self.add_consumer,
            "cancel_consumer": self.cancel_consumer,
            "pause": self.pause,
            "resume": self.resume,
        }

    async def add_consumer(
        self,
        queue: str,
        exchange: str | None = None,
        exchange_type: str | None = None,
        routing_key: str | None = None,
        **options: Any,
    ) -> Reply:
        """Consume from one more queue; the options are for one that the app does not know.

        Raises ValueError.
        """
        name = _name(queue)
        options |= {
            "exchange": name if exchange is None else exchange,
            "exchange_type": exchange_type or "direct",
            "routing_key": routing_key,
        }
        await self._changes.add(await self._queue_of(name, options))
        return {"ok": f"add consumer {name}"}

    async def cancel_consumer(self, queue: str, **_: Any) -> Reply:
        """Stop consuming from a queue; what is here still runs. Raises ValueError."""
        name = _name(queue)
        await self._deselect(name)
        await self._changes.cancel(name)
        return {"ok": f"no longer consuming from {name}"}

    async def pause(self, queue: str, **_: Any) -> Reply:
        """Pause a queue and return its unstarted messages. Raises ValueError.

        None of its tasks starts until it is resumed.
        """
        name = _name(queue)
        return {"ok": f"queue {name} is paused"} if await self._changes.pause(name) else _unknown(name)

    async def resume(self, queue: str, **_: Any) -> Reply:
        """Consume from a paused queue again. Raises ValueError."""
        name = _name(queue)
        return {"ok": f"queue {name} is resumed"} if await self._changes.resume(name) else _unknown(name)


def _name(queue: object) -> str:
    if not isinstance(queue, str) or not 0 < len(queue.encode(errors="surrogatepass")) <= _LONGEST:
        raise ValueError(f"{queue!r:.100} is not the name of a queue")
    return queue


def _unknown(name: str) -> Reply:
    return {"error": f"this worker does not consume from {printable(name)}"}
