"""What programs call on ``app.backend``, over a store in memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from turbo.backends.called import CalledByPrograms
from turbo.protocol.faults import to_wire


class Memory(CalledByPrograms):
    """Documents in a dict, with exceptions in their stored form."""

    def __init__(self) -> None:
        self.documents: dict[str, dict[str, Any]] = {}

    def get_task_meta(self, task_id: str, cache: bool = True) -> dict[str, Any]:
        """Return a document."""
        return self.documents.get(task_id, {"status": "PENDING", "result": None})

    def store_result(
        self, task_id: str, result: object, state: str, traceback: str | None = None, request: Any = None
    ) -> None:
        """Store a document."""
        stored = to_wire(result) if isinstance(result, BaseException) else result
        self.documents[task_id] = {"status": state, "result": stored, "traceback": traceback}


def test_states_that_a_program_sets_are_read_again() -> None:
    backend = Memory()
    assert (backend.get_state("1"), backend.get_result("1"), backend.get_children("1")) == ("PENDING", None, None)
    backend.mark_as_started("1", pid=7)
    assert (backend.get_status("1"), backend.get_result("1")) == ("STARTED", {"pid": 7})
    backend.mark_as_done("1", 3)
    assert (backend.get_state("1"), backend.get_result("1")) == ("SUCCESS", 3)
    backend.mark_as_failure("1", ValueError("no"), traceback="tb")
    assert (backend.get_state("1"), backend.get_traceback("1")) == ("FAILURE", "tb")
    assert repr(backend.get_result("1")) == "ValueError('no')"
    backend.mark_as_retry("1", KeyError("k"))
    assert (backend.get_state("1"), type(backend.get_result("1"))) == ("RETRY", KeyError)
    backend.mark_as_revoked("1", "why")
    assert (backend.get_state("1"), type(backend.get_result("1")).__name__) == ("REVOKED", "TaskRevokedError")


def test_nothing_is_stored_where_that_is_asked() -> None:
    backend = Memory()
    backend.mark_as_done("1", 3, store_result=False)
    backend.mark_as_done("1", 3, request=SimpleNamespace(chord=None, ignore_result=True))
    backend.mark_as_failure("1", ValueError(), store_result=False)
    assert backend.documents == {}


@pytest.mark.parametrize("consequence", ["chord", "chain", "errbacks"])
def test_an_end_with_consequences_is_left_to_the_worker(consequence: str) -> None:
    request = SimpleNamespace(**{consequence: ["x"]})
    with pytest.raises(NotImplementedError, match=f"the task has {consequence}="):
        Memory().mark_as_failure("1", ValueError(), request=request)
