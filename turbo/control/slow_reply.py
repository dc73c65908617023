"""A reply that may take longer than the client waits, and one in its place.

Made by commands, used by ``control.service``. It must never end the work whose reply did not come in time.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable

#: Seconds that a client waits if it does not say how long; Celery's default.
_USUAL: Final = 1.0
#: Seconds before the end of that time at which the other reply is sent.
_MARGIN: Final = 0.3


@dataclass(frozen=True, slots=True)
class SlowReply:
    """The reply to wait for, and the other one."""

    awaited: Awaitable[Any]
    meanwhile: Any

    async def before(self, expires: float | None) -> Any:
        """Return the reply, or the other one just before ``expires``.

        That is in seconds since 1970.
        """
        left = _USUAL if expires is None else expires - time.time()
        work = asyncio.ensure_future(self.awaited)
        # Nobody waits for an error that comes too late; whoever does the work logs it.
        work.add_done_callback(lambda ended: None if ended.cancelled() else ended.exception())
        try:
            async with asyncio.timeout(max(0.0, left - _MARGIN)):
                return await asyncio.shield(work)
        except TimeoutError:
            return self.meanwhile
