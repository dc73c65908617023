"""What happens to a surprise in the master's own code: it is logged as critical, and the worker goes on or ends.

Runs in the master, around its loops and beneath its callbacks. A loop that only tunes or looks after (the prefetch
window, the recycling of children) is begun again after a pause, because a worker without it still does its work and
one that restarts for it does none. What the start depends on ends the worker instead: one that hangs before it
consumes looks alive and is not. A callback that raised has left its own work undone and is only reported: every
delivery is in the ledger, and the broker has it again at the latest when the connection closes. Nothing here may
decide about a delivery.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from turbo.policy.restarts import Backoff, reconnect_delay

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

logger = logging.getLogger("turbo.worker")

#: Seconds between the failures of a loop and its next beginning.
_PAUSES: Final = Backoff(first=1.0, cap=60.0)


async def keep_running(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Run ``work`` until it returns or this is cancelled; begin it again, ever more slowly, whenever it raises."""
    failures = 0
    while True:
        try:
            await work()
        except Exception:
            failures += 1
            pause = reconnect_delay(failures, 1.0, _PAUSES)
            logger.critical("The %s loop failed and begins again in %g s", name, pause, exc_info=True)
            await asyncio.sleep(pause)
        else:
            return


async def or_die(work: Callable[[], Awaitable[None]], die: Callable[[BaseException], None]) -> None:
    """Run ``work`` once; when it raises, hand the error to ``die``, which ends the worker."""
    try:
        await work()
    except Exception as error:
        logger.critical("The worker's start failed", exc_info=True)
        die(error)


def report(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """The loop's exception handler: a callback or a forgotten task raised."""
    error = context.get("exception")
    where = context.get("handle") or context.get("future") or context.get("task") or "the loop"
    logger.critical("%s in %r", context.get("message", "An error"), where, exc_info=error)
