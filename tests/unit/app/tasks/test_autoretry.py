from __future__ import annotations

from typing import Any

import pytest

from tests.unit.app.recording import Recorder
from turbo import current
from turbo.app.base import Turbo
from turbo.app.task import Task
from turbo.app.tasks import autoretry
from turbo.app.tasks.context import Context
from turbo.exceptions import Ignore, Reject, Retry
from turbo.policy.retry_delay import backoff


def run(task: Task, *args: Any, retries: int = 0) -> Any:
    """Run the body as a worker would."""
    request = Context(
        id="ID",
        called_directly=False,
        retries=retries,
        args=args,
        kwargs={},
        delivery_info={"exchange": "", "routing_key": "q"},
    )
    token = current.push(task, request)
    try:
        return task.run(*args)
    finally:
        current.pop(token)


def raising(app: Turbo, exc: BaseException, **options: Any) -> Task:
    def body() -> None:
        raise exc

    return app.task(name="t", **{"autoretry_for": (OSError,), **options})(body)


@pytest.mark.row("RT11", "RT13")
@pytest.mark.parametrize(
    ("exc", "options", "wanted"),
    [
        (OSError("x"), {}, Retry),
        (ConnectionError("x"), {}, Retry),
        (ValueError("x"), {}, ValueError),
        (ConnectionError("x"), {"dont_autoretry_for": (ConnectionError,)}, ConnectionError),
        (OSError("x"), {"autoretry_for": ()}, OSError),
        (Ignore("x"), {"autoretry_for": (Exception,)}, Ignore),
        (Reject("x"), {"autoretry_for": (Exception,)}, Reject),
        (OSError("x"), {"max_retries": 0}, OSError),
    ],
)
def test_what_is_retried(app: Turbo, sent: Recorder, exc: Exception, options: Any, wanted: type[Exception]) -> None:
    task = raising(app, exc, **options)
    with pytest.raises(wanted):
        run(task)
    assert len(sent.sent) == (wanted is Retry)


def test_a_call_as_a_function_raises_what_the_body_raised(app: Turbo, sent: Recorder) -> None:
    with pytest.raises(OSError, match="x"):
        raising(app, OSError("x"))()
    assert sent.sent == []


@pytest.mark.row("RT12")
def test_retry_kwargs(app: Turbo, sent: Recorder) -> None:
    task = raising(app, OSError("x"), retry_kwargs={"max_retries": 5, "countdown": 7})
    with pytest.raises(Retry) as raised:
        run(task, retries=4)
    assert raised.value.when == 7
    with pytest.raises(OSError, match="x"):
        run(task, retries=5)


@pytest.mark.row("RT14", "RT15", "RT16")
@pytest.mark.parametrize(
    ("options", "retries", "when"),
    [
        ({}, 0, 180),
        ({"retry_backoff": True, "retry_jitter": False}, 3, 8),
        ({"retry_backoff": 3, "retry_jitter": False}, 3, 24),
        ({"retry_backoff": 2.9, "retry_jitter": False}, 1, 4),
        ({"retry_backoff": True, "retry_jitter": False, "retry_backoff_max": 5}, 3, 5),
        ({"retry_backoff": True}, 3, 4),
    ],
)
def test_delays(
    app: Turbo, sent: Recorder, monkeypatch: pytest.MonkeyPatch, options: Any, retries: int, when: int
) -> None:
    monkeypatch.setattr(autoretry.random, "randrange", lambda n: n // 2)
    with pytest.raises(Retry) as raised:
        run(raising(app, OSError("x"), max_retries=None, **options), retries=retries)
    assert raised.value.when == when


@pytest.mark.row("RT17", "TD7")
def test_options_of_a_base_class(app: Turbo, sent: Recorder) -> None:
    class Base(Task):
        autoretry_for = (KeyError,)

    class Derived(Base):
        name = "derived"

        def run(self) -> None:
            raise KeyError

    task = app.task(name="decorated", base=Base)(lambda: {}["missing"])
    for each in (task, app.register_task(Derived)):
        with pytest.raises(Retry):
            run(each)


def test_a_limit_reached_in_the_body_is_the_end(app: Turbo, sent: Recorder) -> None:
    def body(self: Task) -> None:
        self.retry(exc=OSError("enough"), max_retries=1)

    task = app.task(name="t", bind=True, autoretry_for=(OSError,), max_retries=9)(body)
    with pytest.raises(OSError, match="enough"):
        run(task, retries=1)
    assert sent.sent == [] and task.max_retries == 9


def test_backoff_has_no_overflow() -> None:
    assert backoff(1, 10**6, 600) == 600
    assert [backoff(1, n, 600) for n in range(4)] == [1, 2, 4, 8]
    assert backoff(1, 3, 600, lambda n: n - 1) == 8 and backoff(1, 3, 600, lambda n: 0) == 0
