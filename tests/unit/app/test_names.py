"""Where programs written for Celery look for things, with ``turbo`` for ``celery``."""

from __future__ import annotations

import importlib

import pytest

from turbo.utils import uuid

NAMES = {
    "turbo": "AsyncResult Celery Signature Task current_app current_task shared_task signature subtask",
    "turbo.app.control": "Control Inspect",
    "turbo.app.task": "Context Task",
    "turbo.canvas": "Signature maybe_signature signature subtask",
    "turbo.contrib.abortable": "AbortableAsyncResult AbortableTask",
    "turbo.exceptions": (
        "AlwaysEagerIgnored Ignore ImproperlyConfigured InvalidTaskError MaxRetriesExceededError NotRegistered "
        "OperationalError QueueNotFound Reject Retry SoftTimeLimitExceeded TaskRevokedError TimeLimitExceeded "
        "TimeoutError WorkerLostError"
    ),
    "turbo.result": "AsyncResult EagerResult allow_join_result denied_join_result result_from_tuple",
    "turbo.signals": "before_task_publish setup_logging task_postrun task_prerun worker_ready",
    "turbo.states": "FAILURE PENDING READY_STATES SUCCESS",
    "turbo.utils": "gen_unique_id uuid",
    "turbo.utils.log": "get_logger get_task_logger",
    "turbo.worker.request": "Request",
}


@pytest.mark.parametrize("module", NAMES)
def test_they_are_found_there(module: str) -> None:
    found = vars(importlib.import_module(module))
    assert [name for name in NAMES[module].split() if name not in found] == []


def test_an_id_is_a_text_of_its_own() -> None:
    assert len(uuid()) == 36 and uuid() != uuid()
