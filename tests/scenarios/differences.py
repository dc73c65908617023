"""The permitted differences between the workers, with reasons. Everything else must be equal.

``docs/compatibility.md`` lists each entry under its name. Some scenario must show each entry, so none is superfluous.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.scenarios.place import Observed
from tests.scenarios.scenario import Scenario

Lines = list[list[Any]]
#: The class in which Celery stores what does not pickle.
WRAPPER = "UnpickleableExceptionWrapper"


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference, which is removed from both sides before they are compared."""

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
    """The last of each, where the master got the report of a limit twice."""
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
    Difference("The pool's job number in `WorkerLostError`", _without_job),
    Difference("A body does not unwind at a hard limit", _each_line_list(_without_unwinding)),
    Difference("A hard limit is reported once", _each_line_list(_told_once)),
    Difference("`on_success` of a task's own request class is called", _each_line_list(_without_on_success)),
)


def _with_plain_modules(seen: Observed) -> None:
    for each in (*seen.documents.values(), *seen.read.values()):
        trace = each["traceback"]
        each["traceback"] = [trace[0], plain(trace[1])] if isinstance(trace, list) else plain(trace)


def plain(line: str | None) -> str | None:
    """Remove the package of Celery's exceptions from the last line of a traceback."""
    return line and re.sub(r"^(celery|billiard|kombu|turbo)\.exceptions\.", "", line)


def _of_rejects(lines: Lines) -> Lines:
    told = [line for line in lines if line[2:4] == ["failure", "Reject"]]
    return [*(line for line in lines if line not in told), *([line[0], "master", *line[2:]] for line in told)]


def _unwrapped(seen: Observed) -> None:
    for label, document in seen.documents.items():
        result = document["result"]
        if isinstance(result, dict) and result.get("exc_type") == WRAPPER:
            module, name, args, _ = result["exc_message"]
            document["result"] = {"exc_type": name, "exc_message": args, "exc_module": module}
            document["traceback"] = [True, f"{module}.{name}: {args[0]}"]
            read = seen.read[label]
            read.update(result=repr([name, args[0]]), traceback=document["traceback"][1])
            for line in seen.lines[label]:
                line[:] = [name if word == WRAPPER else word for word in line]


def _handlers_of_lost(lines: Lines) -> Lines:
    if not any(line[1:4] == ["master", "failure", "WorkerLostError"] for line in lines):
        return lines
    return [line for line in lines if line[1] == "child" or line[2] not in ("on_failure", "after_return")]


def _requests_first(lines: Lines) -> Lines:
    told = [line for line in lines if line[1] == "master" and line[2].startswith("request.")]
    rest = [line for line in lines if line not in told]
    ends = ("on_failure", "after_return", "failure")
    at = next((at for at, line in enumerate(rest) if line[1] == "master" and line[2] in ends), len(rest))
    return [*rest[:at], *told, *rest[at:]]


def _of_einfo(lines: Lines) -> Lines:
    return [[*line[:3], "..."] if line[2] == "request.on_failure" else line for line in lines]


def _without_fields(seen: Observed) -> None:
    for label, document in seen.documents.items():
        if isinstance(document["result"], dict) and document["result"].pop("fields", None) and label in seen.read:
            seen.read[label]["result"] = "..."


def _of_protocol_1(seen: Observed) -> None:
    for label, document in seen.documents.items():
        result = document["result"]
        if isinstance(result, dict) and "called_directly" in result and result["headers"] == {"meth": None}:
            result.update(headers=None, ignore_result=None, root_id=label)


def _made_by_the_master(seen: Observed) -> None:
    for document in seen.documents.values():
        error = document["result"].get("exc_type") if isinstance(document["result"], dict) else None
        if "worker" in document and error in {"TaskRevokedError", "TimeLimitExceeded", "WorkerLostError"}:
            document.update(args=None, kwargs=None, queue=None)
        if "worker" in document and error == "NotRegistered":
            document.update(dict.fromkeys(("name", "args", "kwargs", "worker", "retries", "queue")))


def _errbacks_in_the_master(lines: Lines) -> Lines:
    # of a chord: in the master or in a child, wherever its last part has ended
    here = (["master", "errback"], ["errback", "ChordError"])
    return [[*line[:-1], None] if line[1:3] == here[0] or line[2:4] == here[1] else line for line in lines]


def _later_success(seen: Observed) -> None:
    for label, document in seen.documents.items():
        if document["result"] == "second":
            document.update(result="went on", children=[[[label, None], None]], parent_id=None)
            seen.read[label].update(result="'went on'", children=[label])


def _without_bystanders(seen: Observed) -> None:
    seen.documents.pop("bystander", None)


#: The same for turbo's own API, beside those above.
NATIVE_DIFFERENCES = (
    *DIFFERENCES,
    Difference("A traceback names turbo's classes", _with_plain_modules),
    Difference("A child sends `task_failure` of what it rejects", _each_line_list(_of_rejects)),
    Difference("An exception that does not pickle keeps its class", _unwrapped),
    Difference("Handlers of a lost task are called", _each_line_list(_handlers_of_lost)),
    Difference("A request's methods are called last", _each_line_list(_requests_first)),
    Difference("A request gets the exception, not its wrapper", _each_line_list(_of_einfo)),
    Difference("`vars(self.request)` is short", _without_fields),
    Difference("A message of protocol 1 has a root, and no header of its body's", _of_protocol_1),
    Difference("Extended results written by the master have no arguments", _made_by_the_master),
    Difference("An error callback that the master calls gets a text", _each_line_list(_errbacks_in_the_master)),
    Difference("A later attempt's success is stored", _later_success),
    Difference("A chord that breaks fails everything that waits for it", _without_bystanders),
)


def differences_of(make: str) -> tuple[Difference, ...]:
    """Return the permitted differences under a worker."""
    return NATIVE_DIFFERENCES if make == "native" else DIFFERENCES


def begun_once(seen: Observed) -> Observed:
    """Remove the effect of a race of ``celery worker`` from its outcomes.

    A child that dies right after it took a job may be gone before the master reads that it did: the master then gives
    the same job to another child, which begins it a second time without the redelivered flag.
    """
    found = copy.deepcopy(seen)
    for lines in found.lines.values():
        lines[:] = [line for at, line in enumerate(lines) if line[2] != "prerun" or not at or line != lines[at - 1]]
    return found


def settled(seen: Observed, differences: tuple[Difference, ...] = DIFFERENCES) -> Observed:
    """Return a copy without the permitted differences."""
    found = copy.deepcopy(seen)
    for difference in differences:
        difference.apply(found)
    return found


def comparable(seen: Observed, scenario: Scenario, differences: tuple[Difference, ...]) -> Observed:
    """Return a copy without the permitted differences and without races that any worker has."""
    found = settled(seen, differences)
    if scenario.canvas:
        # a chord fails where the last of its header's tasks is known to have ended: in a child, or in the master
        for lines in found.lines.values():
            for line in lines:
                line[1] = "either" if line[2] in ("errback", "publish") else line[1]
        for document in found.documents.values():
            document.update({"children": None} if document["status"] == "FAILURE" else {})
        for each in found.read.values():
            each.update({"children": None} if each["state"] == "FAILURE" else {})
    # processes do not wait for one another with what they write: by attempt and process, then in order
    found.lines = {label: sorted(lines, key=lambda line: line[:2]) for label, lines in found.lines.items()}
    if not scenario.order:
        found.order = []
    if scenario.canvas:
        # the parent of a chord's body is whichever task of the header ended last
        for document in found.documents.values():
            document.pop("parent_id", None)
    return found


def met(celery: Observed, turbo: Observed, differences: tuple[Difference, ...]) -> list[str]:
    """Return the names of the differences between two outcomes of one scenario."""
    names = []
    for difference in differences:
        sides = [copy.deepcopy(celery), copy.deepcopy(turbo)]
        for side in sides:
            for other in differences:
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
    """Return the places where two comparable values differ."""
    if isinstance(celery, dict) and isinstance(turbo, dict):
        keys = sorted(celery.keys() | turbo.keys())
        return [each for key in keys for each in unlike(celery.get(key), turbo.get(key), f"{path}.{key}")]
    return [] if celery == turbo else [f"{path.lstrip('.')}:\n  celery worker: {celery}\n  turbo worker:  {turbo}"]
