"""Formats the worker's startup banner: app, broker, results, limits, queues.

The command prints it to standard output before the worker runs. It must never show a password.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from turbo import __version__
from turbo.amqp.url import redact_url
from turbo.backends.url import redact_backend_url
from turbo.cli.quantities import shown_kib
from turbo.control.report import build

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from turbo.amqp.topology import Queue
    from turbo.cli.app_option import FoundApp
    from turbo.policy.worker_options import WorkerOptions


def banner(found: FoundApp, options: WorkerOptions, queues: Sequence[Queue], *, tasks: Sequence[str] = ()) -> str:
    """Return the text of the banner; ``tasks`` (names) are listed if there are any."""
    lines = [
        f"turbo {__version__} · {options.hostname}",
        "",
        f"  build     {build()}",
        f"  app       {found.where} ({found.because})",
        f"  broker    {brokers(found)}",
        f"  results   {results(found)}",
        f"  children  {_children(options)}",
        f"  limits    {'; '.join(_limits(options)) or 'none'}",
        f"  prefetch  {_prefetch(options)}",
        "  queues    " + "\n            ".join(_queue(queue) for queue in queues),
    ]
    if tasks:
        lines.append("  tasks     " + "\n            ".join(tasks))
    return "\n".join(lines) + "\n"


def brokers(found: FoundApp) -> str:
    """Return the brokers' URLs without their passwords."""
    conf = found.app.conf
    given = conf["broker_read_url"] or "amqp://guest:guest@localhost:5672//"
    return "; ".join([redact_url(given)] if isinstance(given, str) else [redact_url(str(one)) for one in given])


def results(found: FoundApp) -> str:
    """Return the result store's URL without its password."""
    given = found.app.conf["result_backend"]
    return redact_backend_url(str(given)) if given else "disabled"


def _children(options: WorkerOptions) -> str:
    least, threads = options.autoscale_least, options.threads
    if threads:
        return f"{options.concurrency} ({threads} threads{' each' if options.concurrency > 1 else ''})"
    return str(options.concurrency) if least is None else f"autoscaled, {least} to {options.concurrency}"


def _limits(options: WorkerOptions) -> Iterator[str]:
    if options.soft_time_limit:
        yield f"soft {options.soft_time_limit:g} s"
    if options.time_limit:
        yield f"hard {options.time_limit:g} s"
    if options.max_tasks_per_child:
        yield f"a new child every {options.max_tasks_per_child} tasks"
    if options.max_memory_per_child:
        yield f"a new child past {shown_kib(options.max_memory_per_child)}"
    if options.max_memory_per_child_hard:
        yield f"killed past {shown_kib(options.max_memory_per_child_hard)}"


#: Multipliers below this cost speed while tasks take less than a few milliseconds.
_SMALL_MULTIPLIER = 16


def _prefetch(options: WorkerOptions) -> str:
    if options.prefetch_multiplier == 0:
        return "no limit"
    window = options.places * options.prefetch_multiplier
    if options.adaptive_prefetch:
        return f"adaptive, from {window}"
    # Small windows make each task wait for a round trip to the broker.
    hint = "; faster for short tasks: --prefetch adaptive" if options.prefetch_multiplier < _SMALL_MULTIPLIER else ""
    return f"{window}, fixed{hint}"


def _queue(queue: Queue) -> str:
    exchange = f"{queue.exchange.name}({queue.exchange.type})" if queue.exchange.name else "(default)"
    kind = " quorum" if queue.quorum else ""
    return f"{queue.name}{kind}  exchange={exchange} key={queue.routing_key}"
