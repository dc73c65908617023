"""Which pool ``-P`` or ``worker_pool`` asks for, and whether turbo has it.

turbo has processes, one process, and threads.

Used by the command line and when settings are merged. What Celery's pools of green threads are used for is done by
coroutines, threads or more processes, and the errors say by which options. Changes nothing.
"""

from __future__ import annotations

from enum import Enum, unique
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


@unique
class Pool(Enum):
    """The pools that turbo has."""

    #: Children that run one function at a time.
    PROCESSES = "prefork"
    #: One such child.
    SOLO = "solo"
    #: One child or more that run functions in threads.
    THREADS = "threads"


_NAMES: Final = {
    "prefork": Pool.PROCESSES,
    "processes": Pool.PROCESSES,
    "celery.concurrency.prefork:TaskPool": Pool.PROCESSES,
    "solo": Pool.SOLO,
    "celery.concurrency.solo:TaskPool": Pool.SOLO,
    "threads": Pool.THREADS,
    "thread": Pool.THREADS,
    "celery.concurrency.thread:TaskPool": Pool.THREADS,
}
_INSTEAD: Final = (
    "use -P threads -c N, or `async def` tasks, of which each child runs --async-concurrency at once (100), or a "
    "larger -c"
)
#: What replaces a pool, by its name or its class's module.
_REPLACED: Final = {"gevent": _INSTEAD, "eventlet": _INSTEAD}


def pool_kind(pool: str | None) -> Pool:
    """Return the pool that is asked for; None is the default.

    Raises ValueError, whose text names the options to use instead, for one that turbo does not have.
    """
    if pool is None:
        return Pool.PROCESSES
    kind = _NAMES.get(pool)
    if kind is not None:
        return kind
    # Celery's settings name a pool's class too, such as celery.concurrency.gevent:TaskPool.
    name = pool.removeprefix("celery.concurrency.").partition(":")[0]
    instead = _REPLACED.get(name, "use prefork, threads, or solo for one child")
    raise ValueError(f"{pool} is not supported: {instead}")


def without_effect(pool: str | None, given: Mapping[str, Any]) -> list[str]:
    """Return one line about options of the command that the pool does not follow.

    ``given`` are the command line's options, None for those not given.
    """
    kind, idle, why = pool_kind(pool), [], ""
    if kind is Pool.THREADS and given["async_concurrency"] is not None:
        why = "with -P threads, coroutines count among the -c tasks that run at once"
        idle.append("--async-concurrency")
    if kind is not Pool.THREADS and given["processes"] is not None:
        why = "it divides the threads of -P threads; -c is the number of processes"
        idle.append("--processes")
    if kind is Pool.SOLO:
        why = "-P solo is one child, which runs one function at a time"
        idle += [f"-c {given['concurrency']}"] if given["concurrency"] not in (None, 1) else []
        idle += ["--autoscale"] if given["autoscale"] is not None else []
    return [f"{' and '.join(idle)} without effect: {why}"] if idle else []
