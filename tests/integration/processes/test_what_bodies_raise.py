"""What a body may raise, and what the process then does: the same under both workers and in both kinds of app."""

from __future__ import annotations

import json

import pytest
from celery.result import AsyncResult

from tests.harness.processes import wait_until
from tests.integration.adopted.place import READY, Place
from tests.integration.processes.conftest import HEAD

APP = """
import asyncio


def note(what):
    out = os.open(os.environ["RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(out, what.encode() + b"\\n")
    os.close(out)


class Odd(BaseException):
    pass


ERRORS = {
    "cancelled": lambda: asyncio.CancelledError("peer went away"),
    "generator": lambda: GeneratorExit(),
    "own": lambda: Odd("mine"),
    "group": lambda: BaseExceptionGroup("g", [Odd("in it")]),
    "unpicklable": lambda: Odd(lambda: None),
    "memory": lambda: MemoryError("none left"),
    "exit": lambda: SystemExit(),
    "exit 3": lambda: SystemExit(3),
    "exit text": lambda: SystemExit("text"),
}


@app.task(name="proj.fail", acks_late=True, reject_on_worker_lost=True)
def fail(kind):
    note("ran " + kind)
    raise ERRORS[kind]()


@app.task(name="proj.leave")
def leave(kind):
    note("ran " + kind)
    raise ERRORS[kind]()


@app.task(name="proj.told")
def told(request, exc, tb):
    note("told")


@app.task(name="proj.told_in_the_old_way")
def told_in_the_old_way(task_id):
    note("told")
"""
FAILURES = {
    "cancelled": "CancelledError",
    "generator": "GeneratorExit",
    "own": "Odd",
    "group": "BaseExceptionGroup",
    "memory": "MemoryError",
}
#: The library of the app, and whose worker runs it.
WORKERS = [("turbo", "turbo"), ("celery", "turbo"), ("celery", "celery")]


@pytest.mark.row("EX33", "EX34")
@pytest.mark.parametrize(("library", "by"), WORKERS)
def test_what_bodies_raise(library: str, by: str, place: Place) -> None:
    place.write(APP, head=HEAD)
    seen = place.record(by)

    def noted(what: str) -> int:
        return seen.read_text().splitlines().count(what) if seen.exists() else 0

    def failed(name: str, kind: str) -> AsyncResult:
        """Run it; its result, when both error callbacks were called."""
        before = noted("told")
        links = [{"task": f"proj.{told}", "args": [], "kwargs": {}, "options": {"queue": "celery"}, "immutable": False,
                  "subtask_type": None} for told in ("told", "told_in_the_old_way")]  # fmt: skip
        sent = place.client.send_task(f"proj.{name}", (kind,), queue="celery", link_error=links)
        sent.get(timeout=60, propagate=False)
        wait_until(f"error callbacks of {kind}", lambda: noted("told") >= before + 2, 60)
        assert noted(f"ran {kind}") == 1
        return sent

    with place.worker("-c", "1", by=by, env={"LIB": library}) as worker:
        worker.wait_for_line(READY)
        for kind, name in FAILURES.items():
            if kind == "memory" and by == "celery":
                continue  # Celery stores it, and then its master ends: "Unrecoverable error: MemoryError"
            result = failed("fail", kind)
            assert (result.state, _name(result)) == ("FAILURE", name), kind
        if (library, by) != ("turbo", "turbo"):
            assert failed("fail", "unpicklable").state == "FAILURE"
        for kind, code in (("exit", 0), ("exit 3", 3), ("exit text", 1)):
            result = failed("leave", kind)
            assert _name(result) == "WorkerLostError"
            assert f"exitcode {code}" in str(result.result), kind


def _name(result: AsyncResult) -> str:
    """The class of what is stored, by its document."""
    document = json.loads(result.backend.get(result.backend.get_key_for_task(result.id)))
    return str(document["result"]["exc_type"])
