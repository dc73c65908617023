"""The commands that act on tasks: revoke and terminate.

Run on the master's loop for ``control.service``; ``master.delivery.revoking`` carries them out. Replies are Celery's,
word for word, because tools read them. A request with many ids is processed in slices, between which the loop runs.
They must never store a state themselves.
"""

from __future__ import annotations

import asyncio
import logging
import signal as signals
import uuid
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from turbo.log_format import printable
from turbo.protocol.ids import text_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from turbo.master.delivery.revoking import Revoking, Sweep

    Reply = dict[str, str]

logger = logging.getLogger("celery.worker.control")

#: How many ids one log line names.
_NAMED = 100
#: The size of a slice of ids: about three milliseconds.
_SLICE: Final = 2_000
#: How many ids are passed to the app at once; it may store something for each.
_TOLD: Final = 1_000


class TaskCommands:
    """Answers the commands about tasks, for one worker."""

    def __init__(self, revoking: Revoking, report_to_app: Callable[[Sequence[str]], Awaitable[None] | None]) -> None:
        """``report_to_app`` gets revoked tasks that neither run nor wait here.

        The reply waits for its result. So a client that has the reply can send such a task again, and no late state
        overwrites its result.
        """
        self._revoking = revoking
        self._report_to_app = report_to_app

    def table(self) -> Mapping[str, Callable[..., Any]]:
        """Return the commands by name."""
        return {
            "revoke": self.revoke,
            "terminate": self.terminate,
            "revoke_by_stamped_headers": self.revoke_by_stamped_headers,
        }

    def revoke(
        self, task_id: str | Iterable[str], terminate: bool = False, signal: str | int | None = None, **_: Any
    ) -> Reply | Awaitable[Reply]:
        """Prevent these tasks from starting.

        With ``terminate``, end running ones with ``signal`` (TERM).
        """
        signum = signal_number(signal)
        number = signum if terminate else None
        given = [task_id] if isinstance(task_id, (str, uuid.UUID)) else list(task_id)
        if len(given) > _SLICE:
            return self._revoke_many(given, number)
        ids = _ids(given)
        running = self._running()
        sweep = self._carry_out(ids, number)
        if not sweep.finished:
            return self._swept(sweep, ids, running, number)
        # The outcome hooks announce tasks that waited here: with two writers, the later document would win.
        reported = self._report_to_app(sorted(ids - running - set(sweep.found)))
        reply = _reply(ids, sweep.found, number)
        return reply if reported is None else _after(reported, reply)

    async def _revoke_many(self, given: Sequence[object], number: int | None) -> Reply:
        ids: set[str] = set()
        for part in _cut(given, _SLICE):
            ids |= _ids(part)
            await asyncio.sleep(0)
        return await self._swept(self._carry_out(ids, number), ids, self._running(), number)

    def _running(self) -> set[str]:
        return {self._revoking.id_of(delivery) for _child, _seq, delivery in self._revoking.running()}

    def _carry_out(self, ids: set[str], number: int | None) -> Sweep:
        """``number`` is the signal for running tasks; None lets them run on."""
        return self._revoking.revoke(ids) if number is None else self._revoking.terminate(ids, number)

    async def _swept(self, sweep: Sweep, ids: set[str], running: set[str], number: int | None) -> Reply:
        """Wait until all waiting messages have been searched."""
        here = running.union(await sweep.wait())
        for part in _cut(list(ids), _TOLD):
            reported = self._report_to_app(sorted(task_id for task_id in part if task_id not in here))
            await (asyncio.sleep(0) if reported is None else reported)
        if number is not None:
            return _reply(ids, sweep.found, number)
        _log(ids)
        shown = []
        for part in _cut(list(ids), _SLICE):
            shown.append(", ".join(map(repr, part)))
            await asyncio.sleep(0)
        return {"ok": f"tasks {{{', '.join(shown)}}} flagged as revoked"}

    def terminate(self, signal: str | int, task_id: str | Iterable[str], **_: Any) -> Reply | Awaitable[Reply]:
        """End these tasks with ``signal``."""
        return self.revoke(task_id, terminate=True, signal=signal)

    def revoke_by_stamped_headers(
        self,
        headers: Mapping[str, Any] | Sequence[str],
        terminate: bool = False,
        signal: str | int | None = None,
        **_: Any,
    ) -> Reply | Awaitable[Reply]:
        """Prevent tasks with one of these stamps from starting.

        A mapping or ``name=value``.
        """
        number = signal_number(signal)
        if not isinstance(headers, dict):
            headers = {part.split("=")[0]: part.split("=")[1] for part in headers}
        sweep = self._revoking.revoke_stamps(dict(headers))
        if terminate:
            found = self._revoking.terminate_stamped(dict(headers), number)
            text = f"headers {found} revoked" if found else f"headers {headers} were not terminated"
        else:
            text = f"headers {headers} flagged as revoked, but not terminated"
        return {"ok": text} if sweep.finished else _after(sweep.wait(), {"ok": text})


def _ids(given: Iterable[object]) -> set[str]:
    ids = set()
    for one in given:
        if not isinstance(one, (str, uuid.UUID)):
            raise TypeError("ids of tasks are text")
        ids.add(text_id(one))
    return ids


def _cut(ids: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


def _log(ids: Collection[str]) -> None:
    shown = printable(", ".join(sorted(islice(ids, _NAMED))), 4000)
    logger.info("Tasks flagged as revoked: %s%s", shown, " ..." if len(ids) > _NAMED else "")


def _reply(ids: set[str], found: Sequence[str], number: int | None) -> Reply:
    if number is not None:
        return {"ok": f"terminate: {', '.join(dict.fromkeys(found))}" if found else "terminate: tasks unknown"}
    _log(ids)
    return {"ok": f"tasks {ids} flagged as revoked"}


def signal_number(name: str | int | None) -> int:
    """Return a signal's number, by number or name with or without SIG; TERM for None.

    Raises ValueError.
    """
    if name is None or name == "":
        return signals.SIGTERM
    if isinstance(name, str) and not name.isdigit():
        full = name.upper() if name.upper().startswith("SIG") else f"SIG{name.upper()}"
        try:
            return signals.Signals[full]
        except KeyError:
            raise ValueError(f"there is no signal {name[:40]!r}") from None
    return signals.Signals(int(name))


async def _after(reported: Awaitable[object], reply: Reply) -> Reply:
    await reported
    return reply
