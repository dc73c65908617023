"""Handles unexpected errors in the master's own code, logged as critical.

Then the work continues or the worker ends.

Runs in the master, around its loops and beneath its callbacks. A loop that only tunes or monitors (prefetch window,
recycling) is restarted after a pause, because the worker still works without it. An error during the start ends the
worker, because a worker that hangs before it consumes looks alive. A callback that raised is only reported: every
delivery is in the ledger, and the broker requeues it at the latest when the connection closes. It must never decide
about a delivery.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from turbo.policy.restarts import Backoff, reconnect_delay

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

logger = logging.getLogger("turbo.worker")

#: Seconds between the failure of a loop and its restart.
_PAUSES: Final = Backoff(first=1.0, cap=60.0)


async def keep_running(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Run ``work`` until it returns or this is cancelled.

    Restart it ever more slowly when it raises.
    """
    failures = 0
    while True:
        try:
            await work()
        except Exception:
            failures += 1
            pause = reconnect_delay(failures, 1.0, _PAUSES)
            logger.critical("The %s loop failed; restarting it in %g s", name, pause, exc_info=True)
            await asyncio.sleep(pause)
        else:
            return


async def or_die(work: Callable[[], Awaitable[None]], die: Callable[[BaseException], None]) -> None:
    """Run ``work`` once.

    When it raises, pass the error to ``die``, which ends the worker.
    """
    try:
        await work()
    except Exception as error:
        logger.critical("The worker's start failed; ending the worker", exc_info=True)
        die(error)


def report(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Handle the loop's exceptions: a callback or an unawaited task raised."""
    error = context.get("exception")
    where = context.get("handle") or context.get("future") or context.get("task") or "the loop"
    logger.critical("%s in %r", context.get("message", "An error"), where, exc_info=error)
