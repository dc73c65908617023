"""The options of ``turbo worker``: supported, accepted and refused.

Declared here, read by ``cli.worker``. Names, short forms and units are those of ``celery worker``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from turbo.cli.detached import daemon_params
from turbo.cli.global_options import EnvOption, SilentOption
from turbo.cli.pools import pool_kind
from turbo.cli.quantities import Autoscale, Concurrency, Limit, Memory, Positive
from turbo.log_format import LEVELS

if TYPE_CHECKING:
    from collections.abc import Callable

#: Options of Celery that turbo does not support: their names, whether they are flags, and the error text.
_REFUSED: Final[tuple[tuple[tuple[str, ...], bool, str], ...]] = ()


def _refuse(why: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def callback(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        if value:
            raise click.UsageError(f"{'/'.join(param.opts)} {why}", ctx)

    return callback


def _refused() -> list[click.Parameter]:
    return [
        SilentOption(list(names), is_flag=flag, hidden=True, expose_value=False, callback=_refuse(why))
        for names, flag, why in _REFUSED
    ]


def _pool(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    try:
        pool_kind(value)
    except ValueError as error:
        raise click.UsageError(f"-P {error}", ctx) from None
    return value


def _start_method(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value not in (None, "fork"):
        raise click.UsageError(f"--pool-start-method {value} is not supported: children are forked", ctx)


def _names(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (value or "").split(",") if part.strip())


def _accepted(name: str, **attributes: Any) -> click.Parameter:
    return EnvOption([name], expose_value=False, help="Accepted; has no effect.", **attributes)


def worker_params() -> list[click.Parameter]:
    """Return new click parameters for ``turbo worker``."""
    offered = [*_node(), *_children(), *_limits(), *_queues(), *_running(), *daemon_params(), *_beat(), *_events()]
    return [*offered, *_accepted_only(), *_refused()]


def _node() -> list[click.Parameter]:
    return [
        EnvOption(["-n", "--hostname"], help="Name of the worker. %h host name, %n its first part, %d domain."),
        EnvOption(
            ["-l", "--loglevel"],
            type=click.Choice(LEVELS, case_sensitive=False),
            default=None,
            help="[default: WARNING]",
        ),
        EnvOption(
            ["-f", "--logfile"],
            metavar="PATH",
            help="Log here instead of standard error. %n name, %h host, %i and %I the child's index.",
        ),
        EnvOption(["--log-json"], is_flag=True, help="Write each log line as a JSON object."),
        EnvOption(
            ["-S", "--statedb"],
            metavar="PATH",
            help="Keep revoked ids and the logical clock here (in PATH.turbo) for the next start. %n name, %h host.",
        ),
        EnvOption(["--pidfile"], metavar="PATH", help="Write the pid here; do not start if another worker holds it."),
    ]


def _children() -> list[click.Parameter]:
    return [
        EnvOption(
            ["-c", "--concurrency"],
            type=Concurrency(),
            help="Number of children, or threads with -P threads; auto: one per CPU it may use. [default: auto]",
        ),
        EnvOption(
            ["--autoscale"],
            type=Autoscale(),
            metavar="MAX,MIN",
            help="Start and end children with the work: at most MAX, at least MIN (0 if not given).",
        ),
        EnvOption(
            ["-P", "--pool"],
            callback=_pool,
            help="prefork; solo for one child; threads for -c threads in --processes children. [default: prefork]",
        ),
        EnvOption(
            ["--processes"],
            type=click.IntRange(min=1),
            help="With -P threads: children over which the threads are divided. [default: 1]",
        ),
        EnvOption(
            ["-O", "--optimization"],
            type=click.Choice(["default", "fair"]),
            expose_value=False,
            help="Both mean fair dispatch.",
        ),
        EnvOption(
            ["--prefetch-multiplier"],
            type=click.IntRange(min=0),
            help="Messages reserved per child; this fixes the window. 0: no limit.",
        ),
        EnvOption(
            ["--prefetch"],
            type=click.Choice(["adaptive", "fixed"]),
            help="Whether the window adapts to the tasks' run times. [default: adaptive]",
        ),
        EnvOption(["--disable-prefetch"], is_flag=True, help="Reserve only one message per child."),
        EnvOption(
            ["--async-concurrency"],
            type=click.IntRange(min=1),
            help="Coroutine tasks that each child runs at the same time. [default: 100]",
        ),
    ]


def _limits() -> list[click.Parameter]:
    return [
        EnvOption(
            ["--time-limit"],
            type=Limit(),
            metavar="SECONDS",
            help="Kill a task that runs longer than this. 0: no limit.",
        ),
        EnvOption(
            ["--soft-time-limit"],
            type=Limit(),
            metavar="SECONDS",
            help="Raise SoftTimeLimitExceeded in a task that runs longer than this.",
        ),
        EnvOption(["--max-tasks-per-child"], type=click.IntRange(min=0), help="Replace a child after this many tasks."),
        EnvOption(
            ["--max-memory-per-child"],
            type=Memory(),
            metavar="SIZE",
            help="Replace a child that uses more than this (KiB, or with a unit: 512MB) after its task.",
        ),
        EnvOption(
            ["--max-memory-per-child-hard"],
            type=Memory(),
            metavar="SIZE",
            help="Kill a child that uses more than this, even during a task.",
        ),
    ]


def _queues() -> list[click.Parameter]:
    return [
        EnvOption(["-Q", "--queues"], callback=_names, metavar="NAMES", help="Queues to consume from, with commas."),
        EnvOption(["-X", "--exclude-queues"], callback=_names, metavar="NAMES", help="Queues not to consume from."),
        EnvOption(["-I", "--include"], callback=_names, metavar="MODULES", help="More modules to import, with commas."),
        SilentOption(["--purge", "--discard"], is_flag=True, help="Delete all waiting messages first."),
    ]


def _running() -> list[click.Parameter]:
    return [
        EnvOption(
            ["--shutdown-timeout"],
            type=Positive(),
            metavar="SECONDS",
            help="Longest that a warm shutdown waits for running tasks. [default: no limit]",
        ),
        EnvOption(
            ["--heartbeat-file"],
            metavar="PATH",
            help="Touch this file every 2 seconds while the worker consumes. %n name, %h host.",
        ),
        SilentOption(
            ["--embedded-broker"],
            is_flag=True,
            help="Run a small in-memory broker on this machine, for trying things out.",
        ),
    ]


def _beat() -> list[click.Parameter]:
    return [
        SilentOption(["-B", "--beat"], is_flag=True, help="Run beat, which sends periodic tasks, beside the worker."),
        EnvOption(["-s", "--schedule", "--schedule-filename"], metavar="PATH", help="Beat's file of the last runs."),
        EnvOption(["--scheduler"], metavar="CLASS", help="Beat's scheduler class."),
    ]


def _events() -> list[click.Parameter]:
    return [
        SilentOption(["-E", "--task-events", "--events"], is_flag=True, help="Send task events."),
        EnvOption(["--without-heartbeat"], is_flag=True, help="Send no worker events."),
        EnvOption(
            ["--without-mingle"],
            is_flag=True,
            help="Do not ask the other workers for revoked tasks and the logical clock at start.",
        ),
        EnvOption(
            ["--heartbeat-interval"],
            type=click.IntRange(min=0),
            metavar="SECONDS",
            help="Time between worker-heartbeat events. [default: 2]",
        ),
    ]


def _accepted_only() -> list[click.Parameter]:
    return [
        _accepted("--without-gossip", is_flag=True),
        SilentOption(["--pool-start-method"], expose_value=False, hidden=True, callback=_start_method),
        click.Argument(["overrides"], nargs=-1, metavar="[-- SETTING=VALUE]..."),
    ]
