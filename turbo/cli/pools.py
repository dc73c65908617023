"""Which pool ``-P`` or ``worker_pool`` asks for, and whether turbo has it.

turbo has processes and one process.

Used by the command line and when settings are merged. turbo's children are always processes; what Celery's other pools
are used for is done by more processes or by coroutines, and the errors say by which options. Changes nothing.
"""

from __future__ import annotations

from typing import Final

_PROCESSES: Final = frozenset({"prefork", "processes", "celery.concurrency.prefork:TaskPool"})
_ONE_PROCESS: Final = frozenset({"solo", "celery.concurrency.solo:TaskPool"})
_COROUTINES: Final = (
    "use -c N with `async def` tasks, of which each child runs --async-concurrency at once (100), or a larger -c"
)
_THREADS: Final = f"use -c N, where each of the N children is a process; for tasks that mostly wait, {_COROUTINES}"
#: What replaces a pool, by its name or its class's module.
_INSTEAD: Final = {
    "gevent": _COROUTINES,
    "eventlet": _COROUTINES,
    "threads": _THREADS,
    "thread": _THREADS,
}


def is_single(pool: str | None) -> bool:
    """Return whether ``pool``, None for the default, asks for one child only.

    Raises ValueError, whose text names the options to use instead, for a pool that is neither this nor prefork.
    """
    if pool is None or pool in _PROCESSES:
        return False
    if pool in _ONE_PROCESS:
        return True
    # Celery's settings name a pool's class too, such as celery.concurrency.gevent:TaskPool.
    name = pool.removeprefix("celery.concurrency.").partition(":")[0]
    instead = _INSTEAD.get(name, "use prefork, or solo for one child")
    raise ValueError(f"{pool} is not supported, since children are always processes: {instead}")


def without_effect(pool: str | None, *, concurrency: object, autoscale: object) -> list[str]:
    """Return one line about the options that a pool of one child ignores."""
    if not is_single(pool):
        return []
    idle = [f"-c {concurrency}"] if concurrency not in (None, 1) else []
    if autoscale is not None:
        idle.append("--autoscale")
    if not idle:
        return []
    return [f"{' and '.join(idle)} without effect: -P solo is one child, which runs one function at a time"]
