"""``turbo exec PROGRAM``: runs a program whose Celery worker becomes turbo's.

For programs that start the worker themselves, such as ``airflow celery worker`` or ``manage.py celery worker``. This
process becomes the program.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import click

from turbo.cli import startup

_HELP: Final = """Run a program in which Celery's worker is turbo's. All else that the program does stays as it is.

\b
turbo exec airflow celery worker -q default
turbo exec python manage.py celery worker -l INFO
"""


@click.pass_context
def _callback(ctx: click.Context, /, words: tuple[str, ...]) -> None:
    if not words:
        raise click.UsageError("name a program: turbo exec PROGRAM [ARGUMENT]...")
    hook = str(Path(startup.__file__).parent)
    others = [place for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place and place != hook]
    os.environ["PYTHONPATH"] = os.pathsep.join([hook, *others])
    try:
        os.execvp(words[0], words)
    except OSError as error:
        raise click.ClickException(f"cannot run {words[0]}: {error}") from error


exec_command = click.Command(
    "exec",
    params=[click.Argument(["words"], nargs=-1, type=click.UNPROCESSED, metavar="PROGRAM [ARGUMENT]...")],
    callback=_callback,
    help=_HELP,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
