"""Every example of Celery's Tasks guide, its imports translated, run by a real worker.

``TABLE`` lists each code block of the guide by its number, with its first line and the test that shows it, or why it
cannot be shown.
"""

from __future__ import annotations

import re
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.guide.conftest import READY, Guide
from tests.guide.examples import blocks
from tests.harness.processes import wait_until
from tests.harness.worker import WorkerProcess
from turbo import AsyncResult
from turbo.exceptions import EncodeError

VIEWS = "ecosystem/test_django_native.py::test_the_guides_views"
BLOG = "ecosystem/test_django_blog.py::test_spam_disappears_and_the_rest_stays"
REVISED = "in examples/django_blog, with what Django and Akismet's library have renamed since"
#: Number: (first line, the test that shows it or None, what is to be said of it).
TABLE: dict[int, tuple[str, str | None, str]] = {
    1: ("connect_timeout, read_timeout = 5.0, 30.0", "test_a_fragment_with_timeouts", ""),
    2: ("from .models import User", "test_basics", ""),
    3: ("@app.task(serializer='json')", "test_basics", ""),
    4: ("from celery import shared_task", "test_sums", ""),
    5: ("@app.task", "test_decorators_run_inside_out", ""),
    6: ("logger = get_task_logger(__name__)", "test_a_bound_task_logs_its_id", ""),
    7: ("import celery", "test_inheritance", ""),
    8: (">>> @app.task(name='sum-of-two-numbers')", "test_names", ""),
    9: (">>> @app.task(name='tasks.add')", "test_names", ""),
    10: (">>> add.name", "test_names", ""),
    11: ("@app.task", "test_names", ""),
    12: (">>> from tasks import add", "test_names", ""),
    13: ("project", "test_naming_of_ones_own", "the layout"),
    14: ("from celery import Celery", "test_naming_of_ones_own", "the app of all other examples"),
    15: ("@app.task(bind=True)", "test_the_context", ""),
    16: ("from celery.utils.log import get_task_logger", "test_logging", ""),
    17: ("import sys", "test_redirecting_streams_by_hand", ""),
    18: ("import celery", "test_signals_of_logging", ""),
    19: ("import celery", "test_a_worker_whose_logging_is_the_apps", ""),
    20: (">>> @app.task", "test_argument_checks", ""),
    21: (">>> @app.task(typing=False)", "test_argument_checks", ""),
    22: (">>> add.apply_async((2, 3), argsrepr='(<secret-x>, <secret-y>)')", "test_hidden_arguments", ""),
    23: ("@app.task(bind=True)", "test_retries", ""),
    24: ("self.retry(exc=Twitter.LoginError())", "test_retries", ""),
    25: ("@app.task(bind=True, default_retry_delay=30 * 60)  # retry in 30 minutes.", "test_retries", ""),
    26: ("from twitter.exceptions import FailWhaleError", "test_retries", ""),
    27: ("@app.task(autoretry_for=(FailWhaleError,), retry_kwargs={'max_retries': 5})", "test_retries", ""),
    28: ("@app.task", "test_retries", ""),
    29: ("@app.task(autoretry_for=(Exception,))", "test_retries_that_have_nothing_to_retry", ""),
    30: ("from requests.exceptions import RequestException", "test_retries_that_have_nothing_to_retry", ""),
    31: ("class BaseTaskWithRetry(Task):", "test_a_base_class_that_retries", ""),
    32: ("from pydantic import BaseModel", "test_pydantic", ""),
    33: (">>> result = x.delay({'value': 1})", "test_pydantic", ""),
    34: ("from typing import Optional", "test_pydantic", ""),
    35: (">>> result = x.delay()", "test_pydantic", ""),
    36: ("@task(throws=(KeyError, HttpNotFound)):", "test_expected_errors", "without the colon that Python refuses"),
    37: ("@app.task(bind=True)", "test_custom_states", ""),
    38: ("# OK:", "test_exceptions_come_back", ""),
    39: ("class HttpError(Exception):", "test_exceptions_come_back", ""),
    40: ("from celery.exceptions import Ignore", "test_ignore", ""),
    41: ("from celery import states", "test_ignore", ""),
    42: ("import errno", "test_reject", "its last line gives retry() the exception as args, in Celery too"),
    43: ("from celery.exceptions import Reject", "test_reject", ""),
    44: ("@app.task", "test_sums", ""),
    45: ("class _AddTask(app.Task):", "test_sums", "registered by app.register_task, as Celery wants it"),
    46: ("from celery import Task", "test_class_based_tasks", ""),
    47: ("from celery import Task", "test_class_based_tasks", ""),
    48: ("from celery.app import task", "test_class_based_tasks", ""),
    49: ("from celery import Celery", "test_a_worker_whose_logging_is_the_apps", ""),
    50: ("Worker Process Timeline", "test_handlers", "a drawing"),
    51: ("import time", "test_handlers", ""),
    52: ("import logging", "test_custom_requests", ""),
    53: (">>> from proj.celery import app", "test_the_registry", "there are more of the built-in ones by now"),
    54: ("@app.task(ignore_result=True)", "test_results_nobody_wants", ""),
    55: ("@app.task", "test_results_nobody_wants", ""),
    56: ("@app.task", "test_tasks_that_wait_for_tasks", "the bad example: refused as in Celery"),
    57: ("def update_page_info(url):", "test_tasks_that_follow_one_another", ""),
    58: ("@app.task", "test_tasks_that_wait_for_tasks", ""),
    59: ("class Article(models.Model):", "test_models_as_arguments", ""),
    60: (">>> article = Article.objects.get(id=102)", "test_models_as_arguments", ""),
    61: ("@app.task", "test_models_as_arguments", ""),
    62: (">>> expand_abbreviations.delay(article_id)", "test_models_as_arguments", ""),
    63: ("from django.db import transaction", VIEWS, ""),
    64: ("from django.db import transaction", VIEWS, ""),
    65: ("import functools", VIEWS, ""),
    66: ("from django.db import models", BLOG, REVISED),
    67: ("from django import forms", BLOG, REVISED),
    68: ("from celery import Celery", BLOG, REVISED + "; Task.get_logger, which it calls, is gone from Celery"),
}  # fmt: skip


def test_every_block_is_listed_and_every_test_exists() -> None:
    assert list(TABLE) == list(range(1, 69))
    for number, (_, shown, said) in TABLE.items():
        assert _is_test(shown) if shown else said, number
    prompts = {10, 12, 13, 22, 33, 35, 50, 53, 60, 62}
    without = {number for number, (_, shown, _) in TABLE.items() if shown is None or "::" in shown}
    assert set(blocks()) == set(TABLE) - prompts - without
    # An import of Celery's beyond the ones translated would make this a test of Celery.
    assert not re.search(r"^\s+(from|import) celery", "\n".join(_code()), re.MULTILINE)


def _is_test(shown: str) -> bool:
    path, separator, name = shown.partition("::")
    if not separator:
        return shown in globals()
    return f"\ndef {name}(" in (Path(__file__).parents[1] / path).read_text()


def _code() -> list[str]:
    return [line for parts in blocks().values() for lines in parts.values() for line in lines]


def test_a_fragment_with_timeouts(guide: Guide) -> None:
    assert guide.module(1).fetch.delay().get(timeout=60) == ["http://localhost/", 5.0, 30.0]


@pytest.mark.parametrize("number", [2, 3])
def test_basics(guide: Guide, number: int) -> None:
    name = f"ann{number}"
    assert guide.module(number).create_user.delay(name, password="p").get(timeout=60) is None
    assert "'password': 'p'" in guide.line(f"created user .*'{name}'")


@pytest.mark.parametrize("number", [4, 16, 44, 45])
def test_sums(guide: Guide, number: int) -> None:
    assert guide.module(number).add.delay(4, number).get(timeout=60) == 4 + number


def test_decorators_run_inside_out(guide: Guide) -> None:
    add = guide.module(5).add
    assert add.name == "guide.e05.add"
    assert add.delay(2, 2).get(timeout=60) == [2, [1, 4]]


def test_a_bound_task_logs_its_id(guide: Guide) -> None:
    result = guide.module(6).add.delay(1, 2)
    assert result.get(timeout=60) is None
    guide.line(rf"guide\.e06\.add\[{result.id}\]: {result.id}$")


def test_inheritance(guide: Guide) -> None:
    result = guide.module(7).add.delay(1, 2)
    with pytest.raises(KeyError):
        result.get(timeout=60)
    guide.line(rf"'{result.id}' failed: KeyError\(")


def test_names(guide: Guide) -> None:
    add = guide.module(8).add
    assert (add.name, add.delay(1, 2).get(timeout=60)) == ("sum-of-two-numbers", 3)
    named = guide.module(9).add
    assert named.name == "tasks.add"
    assert named.delay(3, 4).get(timeout=60) == 7
    from tasks import add as automatic  # the guide's own import, of a module written for this test

    assert automatic.name == "tasks.add"
    assert automatic.delay(2, 2).get(timeout=60) == 4


def test_naming_of_ones_own(guide: Guide) -> None:
    from guide.moduleA.tasks import taskA

    assert taskA.name == "guide.moduleA.taskA"
    assert taskA.delay().get(timeout=60) == "A"


def test_the_context(guide: Guide) -> None:
    result = guide.module(15).dump_context.delay(1, y=2)
    result.get(timeout=60)
    assert "args: [1] kwargs: {'y': 2}" in guide.line(f"Executing task id {result.id}")


def test_logging(guide: Guide) -> None:
    result = guide.module(16).add.delay(16, 61)
    assert result.get(timeout=60) == 77
    guide.line(rf"INFO.*guide\.e16\.add\[{result.id}\]: Adding 16 \+ 61")


def test_redirecting_streams_by_hand(guide: Guide) -> None:
    result = guide.module(17).add.delay(17, 71)
    assert result.get(timeout=60) == 88
    guide.line(rf"WARNING.*guide\.e17\.add\[{result.id}\]: Adding 17 \+ 71")


def test_signals_of_logging(guide: Guide) -> None:
    assert guide.app.send_task("guide.e18.propagates").get(timeout=60) == [True, True, True]


def test_argument_checks(guide: Guide) -> None:
    add = guide.module(20).add
    assert isinstance(add.delay(8, 8), AsyncResult)
    with pytest.raises(TypeError, match="argument"):
        add.delay(8)
    with pytest.raises(TypeError, match="argument"):
        guide.module(21).add.delay(8).get(timeout=60)


def test_hidden_arguments(guide: Guide) -> None:
    guide.module(20).add.apply_async((2, 3), argsrepr="(<secret-x>, <secret-y>)", queue="secrets")
    properties, body = guide.take("secrets")
    assert properties.headers["argsrepr"] == "(<secret-x>, <secret-y>)"
    assert body.startswith((b"[[2, 3]", b"[[2,3]"))
    hidden = repr({"card": "**** **** **** 5678"})
    charge = guide.app.signature("shop.charge", (1,), {"card": "1234 5678 1234 5678"}, queue="secrets")
    charge.set(kwargsrepr=hidden).delay()
    properties, body = guide.take("secrets")
    assert properties.headers["kwargsrepr"] == hidden and b"1234 5678 1234" in body


RETRIED = [
    (23, "send_twitter_status", ("token", "hi"), "FailWhaleError", 3),
    (23, "send_twitter_status", ("", "hi"), "LoginError", 3),
    (24, "log_in", (), "LoginError", 3),
    (25, "add", (1, 2), "LookupError", 3),
    (26, "refresh_timeline", ("ann",), "FailWhaleError", 3),
    (27, "refresh_timeline", ("ann",), "FailWhaleError", 5),
    (28, "refresh_timeline", ("ann",), "FailWhaleError", 5),
]


@pytest.mark.parametrize(("number", "name", "args", "error", "most"), RETRIED)
def test_retries(guide: Guide, number: int, name: str, args: tuple[Any, ...], error: str, most: int) -> None:
    task = getattr(guide.module(number), name)
    assert type(guide.state(task.apply_async(args, retries=most - 1), "RETRY")).__name__ == error
    assert type(guide.state(task.apply_async(args, retries=most), "FAILURE")).__name__ == error


@pytest.mark.parametrize("number", [29, 30])
def test_retries_that_have_nothing_to_retry(guide: Guide, number: int) -> None:
    task = guide.module(number).x
    assert task.autoretry_for
    assert task.delay().get(timeout=60) is None


def test_a_base_class_that_retries(guide: Guide) -> None:
    """The first wait is one second without jitter."""
    result = guide.module(31).once.delay()
    assert result.get(timeout=60) == 1


def test_pydantic(guide: Guide) -> None:
    assert guide.module(32).x.delay({"value": 1}).get(timeout=60) == {"value": "example: 1"}
    x = guide.module(34).x
    assert x.delay().get(timeout=60) is None
    assert x.delay({"value": 1}).get(timeout=60) == {"value": "example: 1"}


def test_expected_errors(guide: Guide) -> None:
    result = guide.module(36).get_foo.delay()
    assert type(guide.state(result, "FAILURE")).__name__ == "HttpNotFound"
    assert "INFO" in guide.line(rf"get_foo\[{result.id}\] raised expected")


def test_custom_states(guide: Guide) -> None:
    paths = [guide.directory / "first", guide.directory / "second"]
    paths[0].touch()
    result = guide.module(37).upload_files.delay([str(path) for path in paths])
    assert guide.state(result, "PROGRESS") in ({"current": 0, "total": 2}, {"current": 1, "total": 2})
    paths[1].touch()
    assert result.get(timeout=60) is None


def test_exceptions_come_back(guide: Guide) -> None:
    assert guide.state(guide.module(38).fail.delay(), "FAILURE").args == (404,)
    error = guide.state(guide.module(39).fail.delay(), "FAILURE")
    assert (error.status_code, error.headers, error.body) == (404, {"a": "b"}, "none")


def test_ignore(guide: Guide) -> None:
    task = guide.module(40).some_task
    assert task.delay().get(timeout=60) is None
    revoked = task.apply_async(task_id=f"revoked-{uuid.uuid4()}")
    guide.line(rf"{revoked.id}\] ignored")
    assert revoked.state == "PENDING"
    assert guide.module(41).get_tweets.delay("ann").get(timeout=60) == ["ann", "hello"]


def test_reject(guide: Guide) -> None:
    for path in ("large", "full"):
        result = guide.module(42).render_scene.delay(path)
        properties, _ = guide.take("dead")
        assert properties.correlation_id == result.id
    assert guide.module(43).requeues.delay().get(timeout=60) is None
    guide.line("received two times")


def test_class_based_tasks(guide: Guide) -> None:
    authenticate = guide.module(46).authenticate
    answers = [
        authenticate.delay(*pair).get(timeout=60) for pair in (("george", "password"), ("george", "x"), ("a", "b"))
    ]
    assert answers == [True, False, False]
    process_rows = guide.module(48).process_rows
    since = guide.worker.mark()
    for result in [process_rows.delay() for _ in range(8)]:
        result.get(timeout=60)

    def said() -> list[str]:
        return guide.worker.output.splitlines()[since:]

    # What a child prints may be read a moment after its result.
    wait_until("eight runs to be heard of", lambda: sum("processed two" in line for line in said()) == 8, 60)
    # Once for each process at most.
    assert not any("connection 2" in line for line in said())


def test_handlers(guide: Guide) -> None:
    result = guide.module(51).my_task.delay(2, 3)
    assert result.get(timeout=60) == 5
    guide.line(f"Task {result.id} finished with status: SUCCESS")
    said = re.findall(f"Task {result.id} (starting with args|succeeded with result|finished)", guide.worker.output)
    assert said == ["starting with args", "succeeded with result", "finished"]


def test_custom_requests(guide: Guide) -> None:
    result = guide.module(52).some_longrunning_task.apply_async(time_limit=1)
    guide.line("A hard timeout was enforced for task guide.e52.some_longrunning_task")
    assert type(guide.state(result, "FAILURE")).__name__ == "TimeLimitExceeded"


def test_the_registry(guide: Guide) -> None:
    guide.module(44)
    assert guide.app.tasks["guide.e44.add"].name == "guide.e44.add"
    assert guide.app.tasks.keys() >= {"celery.chord_unlock", "celery.backend_cleanup", "celery.chord"}


def test_results_nobody_wants(guide: Guide) -> None:
    result = guide.module(54).mytask.delay()
    guide.line(f"mytask.{result.id}.: something is done|something is done")
    assert (result.state, result.get(timeout=60)) == ("PENDING", None)
    mytask = guide.module(55).mytask
    assert mytask.apply_async((1, 2), ignore_result=True).get() is None
    assert mytask.apply_async((1, 2), ignore_result=False).get(timeout=60) == 3


def test_tasks_that_wait_for_tasks(guide: Guide) -> None:
    with pytest.raises(RuntimeError, match=r"Never call result\.get"):
        guide.module(56).update_page_info.delay("u56").get(timeout=60)
    guide.module(58).update_page_info.delay("u58").get(timeout=60)
    assert "'parsed page of u58'" in guide.line("created page .*'u58'")


def test_tasks_that_follow_one_another(guide: Guide) -> None:
    guide.module(57).update_page_info("u57")
    assert "'parsed page of u57'" in guide.line("created page .*'u57'")


def test_models_as_arguments(guide: Guide) -> None:
    article = guide.module(59).Article()
    with pytest.raises((EncodeError, TypeError)):
        guide.module(59).expand_abbreviations.delay(article)  # a model is nothing that JSON knows
    guide.module(61).expand_abbreviations.delay(102).get(timeout=60)
    guide.line("got article 102")
    guide.line("saved article 102")


def test_a_worker_whose_logging_is_the_apps(guide: Guide) -> None:
    """A receiver of setup_logging that does nothing leaves a worker without log lines of its own."""
    options = ("-A", "guide.e49:app", "-c", "1", "-l", "info", "-Q", "silent")
    with WorkerProcess(*options, directory=guide.directory) as worker:
        assert guide.module(49).tables.delay().get(timeout=60) == ["one", "two"]
        assert not re.search(READY, worker.output, re.MULTILINE)
        assert "[INFO" not in worker.output
        assert not re.search(r"INFO/", worker.output)
