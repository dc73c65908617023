"""What may differ between the workers, and why. Everything else has to be the same.

Each entry stands in ``docs/compatibility.md`` under its name, and has to be met by some scenario: the list is no longer
than it must be.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.scenarios.place import Observed
from tests.scenarios.scenario import CANVAS, Scenario

Lines = list[list[Any]]


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is taken out of both sides before they are compared."""

    #: As it stands in the page.
    name: str
    apply: Callable[[Observed], None]


def _each_line_list(change: Callable[[Lines], Lines]) -> Callable[[Observed], None]:
    def apply(seen: Observed) -> None:
        seen.lines = {label: change(lines) for label, lines in seen.lines.items()}

    return apply


def _without_unwinding(lines: Lines) -> Lines:
    return [line for line in lines if line[2:4] != ["postrun", None]]


def _told_once(lines: Lines) -> Lines:
    """The last of each, where the master was told of a limit twice."""
    if not any("TimeLimitExceeded" in line for line in lines) and not any(line[2] == "publish" for line in lines):
        return lines
    told = [line for line in lines if line[2:] != ["request.on_failure", "ExceptionWithTraceback"]]
    return [line for at, line in enumerate(told) if line not in told[at + 1 :]]


def _without_on_success(lines: Lines) -> Lines:
    return [line for line in lines if line[2] != "request.on_success"]


def _without_job(seen: Observed) -> None:
    for document in seen.documents.values():
        document.update(_jobless(document))
    for each in seen.read.values():
        each.update(_jobless({name: each[name] for name in ("result", "traceback")}))


def _jobless(value: Any) -> Any:
    if isinstance(value, str):
        return re.sub(r" Job: \d+\.", ".", value)
    if isinstance(value, list):
        return [_jobless(each) for each in value]
    if isinstance(value, dict):
        return {key: _jobless(each) for key, each in value.items()}
    return value


DIFFERENCES = (
    Difference("The number of the pool's job in `WorkerLostError`", _without_job),
    Difference("A body does not unwind at a hard limit", _each_line_list(_without_unwinding)),
    Difference("A hard limit is told once", _each_line_list(_told_once)),
    Difference("`on_success` of a task's own request class is called", _each_line_list(_without_on_success)),
)


def settled(seen: Observed) -> Observed:
    """A copy without what differs."""
    found = copy.deepcopy(seen)
    for difference in DIFFERENCES:
        difference.apply(found)
    return found


def comparable(seen: Observed, scenario: Scenario) -> Observed:
    """The same, without what is a race under any worker."""
    found = settled(seen)
    # processes do not wait for one another with what they write: by attempt and process, then in order
    found.lines = {label: sorted(lines, key=lambda line: line[:2]) for label, lines in found.lines.items()}
    if not scenario.order:
        found.order = []
    if scenario.celery_only == CANVAS:
        # the parent of a chord's body is whichever task of the header ended last
        for document in found.documents.values():
            document.pop("parent_id", None)
    return found


def met(celery: Observed, turbo: Observed) -> list[str]:
    """The names of the differences that there are between two observations of one scenario."""
    names = []
    for difference in DIFFERENCES:
        sides = [copy.deepcopy(celery), copy.deepcopy(turbo)]
        for side in sides:
            for other in DIFFERENCES:
                if other is not difference:
                    other.apply(side)
            side.lines = {label: sorted(lines, key=lambda line: line[:2]) for label, lines in side.lines.items()}
        without = copy.deepcopy(sides)
        for side in without:
            difference.apply(side)
        if (sides[0].lines, sides[0].documents) != (sides[1].lines, sides[1].documents) and (
            sides[0] != without[0] or sides[1] != without[1]
        ):
            names.append(difference.name)
    return names


def unlike(celery: Any, turbo: Any, path: str = "") -> list[str]:
    """Where two comparable values differ."""
    if isinstance(celery, dict) and isinstance(turbo, dict):
        keys = sorted(celery.keys() | turbo.keys())
        return [each for key in keys for each in unlike(celery.get(key), turbo.get(key), f"{path}.{key}")]
    return [] if celery == turbo else [f"{path.lstrip('.')}:\n  celery worker: {celery}\n  turbo worker:  {turbo}"]
