"""``turbo result ID``: prints what a task returned.

A client's command: it waits for the result in the result store, prints it and ends.
"""

from __future__ import annotations

import json
from typing import Any

import click

from turbo.cli.asking import broker_needed, find_client, json_option
from turbo.cli.global_options import EnvOption, GlobalOptions, SilentOption, command
from turbo.cli.quantities import Limit
from turbo.cli.suggestions import hint


@command(
    "result",
    [
        click.Argument(["task_id"], metavar="ID"),
        EnvOption(["-t", "--task"], help="Name of the task, if it has a result store of its own."),
        EnvOption(["--timeout"], type=Limit(), metavar="SECONDS", help="Wait no longer. [default: no limit]"),
        SilentOption(["--traceback"], is_flag=True, help="Print the traceback instead; do not wait."),
        json_option(),
    ],
    "Print the result of a task. A failed task's error is printed, and the exit code is 1.",
)
def result_command(ctx: click.Context, options: GlobalOptions, given: dict[str, Any]) -> None:
    """Wait for the result and print it."""
    app = find_client(options)
    handle: Any = app.client
    if given["task"]:
        if given["task"] not in app.tasks:
            raise click.UsageError(f"this app has no task {given['task']}{hint(given['task'], app.tasks)}")
        handle = app.tasks[given["task"]]
    result = handle.AsyncResult(given["task_id"])
    with broker_needed(app):
        if given["traceback"]:
            click.echo(result.traceback)
            return
        value = _wait(result, given["timeout"])
        state = result.state
    failed = state in ("FAILURE", "REVOKED")
    if given["json"]:
        click.echo(json.dumps({"id": given["task_id"], "state": state, "result": value}, default=repr))
    elif failed:
        click.echo(f"turbo result: {given['task_id']} is {state}: {value!r}", err=True)
    else:
        click.echo(value)
    ctx.exit(1 if failed else 0)


def _wait(result: Any, timeout: float | None) -> Any:
    """Return the value, or the error of a failed task.

    Raises ClickException when ``timeout`` has passed.
    """
    try:
        return result.get(timeout=timeout, propagate=False)
    except Exception as error:
        # Both libraries have a class of this name, and this module may not import Celery.
        if type(error).__name__ != "TimeoutError":
            raise
        raise click.ClickException(f"no result of {result.id} after {timeout:g} s") from error
