"""The remote-control commands as command lines take them.

Each has its arguments, in Celery's order, and a line of help.

Read by ``turbo inspect`` and ``turbo control``. A program's own commands come from its app. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from turbo.cli.suggestions import hint
from turbo.control.panel import CommandInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    _Argument = tuple[str, Callable[[str], Any]]

INSPECT: Final = "inspect"
CONTROL: Final = "control"
_WORDS: Final = {
    **dict.fromkeys(("1", "on", "true", "yes"), True),
    **dict.fromkeys(("0", "off", "false", "no"), False),
}


def truth(text: str) -> bool:
    """Parse a truth value. Raises ValueError."""
    try:
        return _WORDS[text.lower()]
    except KeyError:
        raise ValueError(f"{text!r} is neither true nor false") from None


def _inspect(
    help: str, signature: str = "", args: Sequence[_Argument] = (), variadic: str | None = None
) -> CommandInfo:
    return CommandInfo(None, INSPECT, True, 1.0, help, signature, args, variadic)


def _control(
    help: str, signature: str = "", args: Sequence[_Argument] = (), variadic: str | None = None
) -> CommandInfo:
    return CommandInfo(None, CONTROL, True, 1.0, help, signature, args, variadic)


_IDS: Final = "[id1 [id2 [... [idN]]]]"

#: The commands that every worker has, of turbo's and of Celery's.
COMMANDS: Final[Mapping[str, CommandInfo]] = {
    "active": _inspect("Tasks that are running."),
    "active_queues": _inspect("Queues that the worker consumes from."),
    "clock": _inspect("The logical clock."),
    "conf": _inspect("The settings.", "[include_defaults=False]", [("with_defaults", truth)]),
    "memdump": _inspect("The samples of memsample.", "[n_samples=10]", [("samples", int)]),
    "memsample": _inspect("Take a sample of the memory in use."),
    "objgraph": _inspect(
        "Draw a graph of objects.",
        "[object_type=Request] [num=200 [max_depth=10]]",
        [("type", str), ("num", int), ("max_depth", int)],
    ),
    "ping": _inspect("Whether the worker answers."),
    "query_task": _inspect("The states of tasks, by id.", _IDS, variadic="ids"),
    "registered": _inspect(
        "The tasks that the worker knows.", "[attr1 [attr2 [... [attrN]]]]", variadic="taskinfoitems"
    ),
    "report": _inspect("Versions, the platform and settings."),
    "reserved": _inspect("Tasks that wait in the worker for a free child."),
    "revoked": _inspect("Ids of revoked tasks."),
    "scheduled": _inspect("Tasks that wait in the worker for their ETA."),
    "stats": _inspect("Counts, processes and resources."),
    "add_consumer": _control(
        "Consume from one more queue.",
        "<queue> [exchange [type [routing_key]]]",
        [("queue", str), ("exchange", str), ("exchange_type", str), ("routing_key", str)],
    ),
    "autoscale": _control("Change the bounds of autoscaling.", "[max [min]]", [("max", int), ("min", int)]),
    "cancel_consumer": _control("Stop consuming from a queue.", "<queue>", [("queue", str)]),
    "disable_events": _control("Send no task events."),
    "enable_events": _control("Send task events."),
    "heartbeat": _control("Send a heartbeat event now."),
    "pause": _control("Start no tasks of a queue until it is resumed.", "<queue>", [("queue", str)]),
    "pool_grow": _control("Add children.", "[N=1]", [("n", int)]),
    "pool_restart": _control("Import the app anew and replace all children."),
    "pool_shrink": _control("Remove children.", "[N=1]", [("n", int)]),
    "rate_limit": _control(
        "Limit how often a task starts.",
        "<task_name> <rate_limit (e.g., 5/s | 5/m | 5/h)>",
        [("task_name", str), ("rate_limit", str)],
    ),
    "resume": _control("Consume from a paused queue again.", "<queue>", [("queue", str)]),
    "revoke": _control("Prevent tasks from starting.", _IDS, variadic="task_id"),
    "revoke_by_stamped_headers": _control(
        "Prevent tasks with these stamps from starting.",
        "[key1=value1 [key2=value2 [... [keyN=valueN]]]]",
        variadic="headers",
    ),
    "shutdown": _control("End the worker after its running tasks."),
    "terminate": _control("End running tasks by a signal.", f"<signal> {_IDS}", [("signal", str)], variadic="task_id"),
    "time_limit": _control(
        "Change a task's time limits.",
        "<task_name> <soft_secs> [hard_secs]",
        [("task_name", str), ("soft", float), ("hard", float)],
    ),
}


def commands_of(kind: str, added: Mapping[str, CommandInfo]) -> dict[str, CommandInfo]:
    """Return the visible commands of a kind by name, sorted.

    ``added`` are those that programs have added.
    """
    every = {**added, **COMMANDS}
    return {name: every[name] for name in sorted(every) if every[name].type == kind and every[name].visible}


def find_command(kind: str, name: str, added: Mapping[str, CommandInfo]) -> CommandInfo:
    """Return the command ``name`` of a kind.

    Raises UsageError, with the other kind's command line if it has one.
    """
    known = commands_of(kind, added)
    if name in known:
        return known[name]
    other = CONTROL if kind == INSPECT else INSPECT
    if name in commands_of(other, added):
        raise click.UsageError(f"{name} is a command of `turbo {other}`")
    raise click.UsageError(
        f"Command {name} not recognized{hint(name, known) or '.'} Available {kind} commands: {', '.join(known)}"
    )


def parse_arguments(name: str, info: CommandInfo, words: Sequence[str]) -> dict[str, Any]:
    """Return a command's arguments by name.

    Raises UsageError for too few or many, or a wrong type.
    """
    declared: Sequence[_Argument] = info.args or ()
    if info is COMMANDS.get(name) and len(words) < (info.signature or "").count("<"):
        raise click.UsageError(f"usage: {name} {info.signature}")
    found: dict[str, Any] = {}
    for (argument, convert), word in zip(declared, words, strict=False):
        try:
            found[argument] = convert(word) if convert is not None else word
        except ValueError as error:
            raise click.UsageError(f"{name}: {argument}: {error}") from None
    rest = list(words[len(declared) :])
    if info.variadic:
        found[info.variadic] = rest
    elif rest:
        raise click.UsageError(f"Command {name!r} takes arguments: {info.signature or 'none'}")
    return found


def listing(kind: str, added: Mapping[str, CommandInfo]) -> str:
    """Return the text of ``--list``."""
    formatter = click.HelpFormatter()
    with formatter.section(f"{kind.capitalize()} Commands"):
        formatter.write_dl(
            [
                (f"{name} {info.signature}" if info.signature else name, info.help or "")
                for name, info in commands_of(kind, added).items()
            ]
        )
    return formatter.getvalue()
