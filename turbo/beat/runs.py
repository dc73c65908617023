"""The last runs of periodic tasks as a value, and its form as bytes.

Made by ``beat.scheduler``; kept in a file by ``beat.run_file``. Pure: it must never read a clock or a file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Run:
    """The last run of one entry, as an aware time, and how many runs there have been."""

    last_run_at: datetime
    total_run_count: int


#: The last runs by the entries' names.
Runs = Mapping[str, Run]


def encode(runs: Runs) -> bytes:
    """Return runs as JSON."""
    rows = {
        name: {"last_run_at": run.last_run_at.astimezone(UTC).isoformat(), "total_run_count": run.total_run_count}
        for name, run in runs.items()
    }
    return json.dumps({"version": _VERSION, "runs": rows}).encode()


def decode(data: bytes) -> dict[str, Run]:
    """Return the runs that :func:`encode` wrote. Raises ValueError for anything else."""
    try:
        document = json.loads(data)
        version = document["version"]
        if version != _VERSION:
            raise ValueError(f"version {version!r} is not known")
        return {
            str(name): Run(_aware(row["last_run_at"]), int(row["total_run_count"]))
            for name, row in document["runs"].items()
        }
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a list of last runs: {error!r}") from error


def _aware(text: str) -> datetime:
    when = datetime.fromisoformat(text)
    if when.tzinfo is None:
        raise ValueError(f"{text} has no zone")
    return when


def newest(one: Runs, other: Runs) -> dict[str, Run]:
    """Return, for each name of either, the later run."""
    found = dict(one)
    for name, run in other.items():
        if name not in found or run.last_run_at > found[name].last_run_at:
            found[name] = run
    return found
