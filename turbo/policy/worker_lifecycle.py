"""The life of the worker, as a table: what a stop request does in each phase.

The master's signal handlers only record; the loop then asks :func:`on_request` what the request means now.
Source of the meanings: Celery's documented warm, soft and cold shutdown (TERM, QUIT, INT once and twice).
"""

from __future__ import annotations

from enum import IntEnum, unique
from typing import Final


@unique
class Phase(IntEnum):
    """Phases in the order in which they may follow one another."""

    STARTING = 0
    RUNNING = 1
    #: No new messages; running tasks finish.
    WARM = 2
    #: As warm, but only for ``soft_shutdown_timeout``; then cold.
    SOFT = 3
    #: Running tasks are ended now; what is unacknowledged goes back to the broker.
    COLD = 4
    STOPPED = 5


@unique
class Request(IntEnum):
    """What was asked: by signal, by remote control, or by a deadline."""

    TERM = 1
    INT = 2
    QUIT = 3
    DEADLINE = 4
    #: Remote control's shutdown: as TERM, whatever TERM is mapped to.
    REMOTE = 5
    #: Stop as for TERM, whatever that is mapped to, and then run the command anew in the same process.
    HUP = 6


_EXIT_OK: Final = 0
_EXIT_FAILURE: Final = 1


def on_request(phase: Phase, request: Request, *, soft_timeout: float, remap_term: bool = False) -> tuple[Phase, int]:
    """Return the phase to enter and the exit code it implies.

    The same phase means that nothing changes. ``remap_term`` is ``REMAP_SIGTERM=SIGQUIT`` in the environment: TERM then
    asks for a cold shutdown.
    """
    if request is Request.TERM and remap_term:
        request = Request.QUIT
    elif request in (Request.REMOTE, Request.HUP):
        request = Request.TERM
    if phase in (Phase.COLD, Phase.STOPPED):
        return phase, _EXIT_FAILURE
    if request is Request.DEADLINE:
        return Phase.COLD, _EXIT_FAILURE
    if phase is Phase.SOFT:
        return (phase, _EXIT_FAILURE) if request is Request.TERM else (Phase.COLD, _EXIT_FAILURE)
    if request is Request.QUIT:
        return (Phase.SOFT if soft_timeout > 0 else Phase.COLD), _EXIT_FAILURE
    if phase is Phase.WARM:
        return (Phase.COLD, _EXIT_FAILURE) if request is Request.INT else (phase, _EXIT_OK)
    return Phase.WARM, (_EXIT_OK if request is Request.TERM else _EXIT_FAILURE)


def restarts(phase: Phase, request: Request, *, restarting: bool) -> bool:
    """Whether the command runs again after the shutdown of ``request``.

    ``phase`` is that in which it is asked for. HUP asks for it while the worker works. Any later request to stop
    cancels that: the worker ends.
    """
    if request is Request.HUP:
        return restarting or phase in (Phase.STARTING, Phase.RUNNING)
    return restarting and request is Request.DEADLINE
