"""The commands that act on tasks: revoke them, end them.

Run in the master's loop for ``control.service``; ``master.revoking`` carries them out. Replies are Celery's, word for
word, because tools read them.
"""

from __future__ import annotations

import logging
import signal as signals
import uuid
from typing import TYPE_CHECKING, Any

from turbo.protocol.ids import text_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from turbo.master.revoking import Revoking

    Reply = dict[str, str]

logger = logging.getLogger("celery.worker.control")

#: Ids that one log line names.
_NAMED = 100


class TaskCommands:
    """See the module."""

    def __init__(self, revoking: Revoking, tell_app: Callable[[Sequence[str]], Awaitable[None] | None]) -> None:
        """``tell_app`` hears of revoked tasks that neither run nor wait here; replies wait for what it returns.

        So whoever has the reply can send such a task, and it is the only one to store its end.
        """
        self._revoking = revoking
        self._tell_app = tell_app

    def table(self) -> Mapping[str, Callable[..., Any]]:
        """The commands by their names."""
        return {
            "revoke": self.revoke,
            "terminate": self.terminate,
            "revoke_by_stamped_headers": self.revoke_by_stamped_headers,
        }

    def revoke(
        self, task_id: str | Iterable[str], terminate: bool = False, signal: str | int | None = None, **_: Any
    ) -> Reply | Awaitable[Reply]:
        """Never begin these tasks; with ``terminate``, end those that run by ``signal``, TERM by default."""
        ids = set(_ids(task_id))
        number = signal_number(signal)
        running = {self._revoking.id_of(delivery) for _child, _seq, delivery in self._revoking.running()}
        if terminate:
            found = self._revoking.terminate(ids, number)
        else:
            found = self._revoking.revoke(ids)
        # What waited here is the judge's to announce: two writers would leave whichever document comes last.
        told = self._tell_app(sorted(ids - running - set(found)))
        if terminate:
            reply = {"ok": f"terminate: {', '.join(dict.fromkeys(found))}" if found else "terminate: tasks unknown"}
        else:
            shown = sorted(ids)[:_NAMED]
            logger.info("Tasks flagged as revoked: %s%s", ", ".join(shown), " ..." if len(ids) > _NAMED else "")
            reply = {"ok": f"tasks {ids} flagged as revoked"}
        return reply if told is None else _after(told, reply)

    def terminate(self, signal: str | int, task_id: str | Iterable[str], **_: Any) -> Reply | Awaitable[Reply]:
        """End these tasks by ``signal``."""
        return self.revoke(task_id, terminate=True, signal=signal)

    def revoke_by_stamped_headers(
        self,
        headers: Mapping[str, Any] | Sequence[str],
        terminate: bool = False,
        signal: str | int | None = None,
        **_: Any,
    ) -> dict[str, str]:
        """Never begin tasks that carry one of these stamps, given as a mapping or as ``name=value``."""
        number = signal_number(signal)
        if not isinstance(headers, dict):
            headers = {part.split("=")[0]: part.split("=")[1] for part in headers}
        self._revoking.revoke_stamps(dict(headers))
        if not terminate:
            return {"ok": f"headers {headers} flagged as revoked, but not terminated"}
        found = self._revoking.terminate_stamped(dict(headers), number)
        return {"ok": f"headers {found} revoked" if found else f"headers {headers} were not terminated"}


def _ids(task_id: str | Iterable[str]) -> list[str]:
    ids = [task_id] if isinstance(task_id, (str, uuid.UUID)) else list(task_id)
    if not all(isinstance(one, (str, uuid.UUID)) for one in ids):
        raise TypeError("ids of tasks are text")
    return [text_id(one) for one in ids]


def signal_number(name: str | int | None) -> int:
    """The number of a signal by its number or name, with or without SIG; TERM for None. Raises ValueError."""
    if name is None or name == "":
        return signals.SIGTERM
    if isinstance(name, str) and not name.isdigit():
        full = name.upper() if name.upper().startswith("SIG") else f"SIG{name.upper()}"
        try:
            return signals.Signals[full]
        except KeyError:
            raise ValueError(f"there is no signal {name[:40]!r}") from None
    return signals.Signals(int(name))


async def _after(told: Awaitable[None], reply: Reply) -> Reply:
    await told
    return reply
