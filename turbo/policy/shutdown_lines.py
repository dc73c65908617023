"""The lines that Celery's worker prints when it is asked to stop.

They depend on request and phase.

The master asks for them at each request to stop; ``log_format.saying`` prints them. Alerts and Celery's own smoke tests
look for them, so the texts are Celery's. It must never decide anything: ``policy.worker_lifecycle`` does.
"""

from __future__ import annotations

from typing import Final

from turbo.policy.worker_lifecycle import Phase, Request

WARM: Final = "worker: Warm shutdown (MainProcess)"
COLD: Final = "worker: Cold shutdown (MainProcess)"
WAITING: Final = "Waiting gracefully for cold shutdown to complete..."
AGAIN_TO_TURN_COLD: Final = "worker: Hitting Ctrl+C again will initiate cold shutdown, terminating all running tasks!"
AGAIN_TO_END_TASKS: Final = "worker: Hitting Ctrl+C again will terminate all running tasks!"
#: Logged as a warning, not printed; takes the seconds.
SOFT: Final = "Initiating Soft Shutdown, terminating in %s seconds"


def printed(before: Phase, request: Request, after: Phase) -> tuple[str, ...]:
    """Return the lines for a request that moves the worker to ``after``.

    They are in order; ``before`` is the phase so far. Empty for a request by remote control, and for one that arrives
    after the worker has stopped.
    """
    if request is Request.REMOTE or before is Phase.STOPPED:
        return ()
    if request is Request.DEADLINE:
        return () if before is Phase.COLD else (COLD,)
    if before is Phase.COLD:
        return (WAITING,)
    if before is Phase.SOFT and after is Phase.COLD:
        return (WAITING, COLD)
    if after is Phase.WARM:
        return (AGAIN_TO_TURN_COLD, WARM) if request is Request.INT and before is not Phase.WARM else (WARM,)
    if after is Phase.SOFT:
        return (AGAIN_TO_END_TASKS,) if before is not Phase.SOFT else ()
    # Celery names the cold shutdown that follows QUIT, and leaves it at the hint for Ctrl+C.
    return (AGAIN_TO_END_TASKS,) if request is Request.INT else (AGAIN_TO_END_TASKS, COLD)
