"""The command line of the beat that ``turbo worker -B`` runs.

Made in the worker's command, run by ``worker.beat_process``. ``cli.beat`` reads it in the other process.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The option that tells beat to end with the process that holds its standard input.
BESIDE_WORKER: Final = "--beside-worker"


def command_beside_worker(
    where: str, given: Mapping[str, Any], *, level: int, logfile: str | None, quiet: bool
) -> list[str]:
    """Return the ``turbo beat`` command for a worker's command line ``given``.

    The global options are in the environment.
    """
    command = [sys.executable, "-m", "turbo", "-A", where, "beat", BESIDE_WORKER, "-l", logging.getLevelName(level)]
    for option, value in (("-f", logfile), ("-s", given["schedule"]), ("-S", given["scheduler"])):
        if value:
            command += [option, value]
    if given["log_json"]:
        command.append("--log-json")
    if quiet:
        command.append("-q")
    return [*command, "--", *given["overrides"]]
