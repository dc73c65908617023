"""Promises of results behave as those of vine, which Celery's results have."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import vine

from turbo.result.promise import Promise

KINDS = pytest.mark.parametrize("kind", [Promise, vine.promise], ids=["turbo", "vine"])


def fail(*_: object) -> None:
    raise KeyError("no such key")


@KINDS
def test_callbacks_get_what_it_is_called_with(kind: type[Any]) -> None:
    called: list[Any] = []
    promise = kind()
    promise.then(lambda *args, **kwargs: called.append((args, kwargs)))
    promise.then(called.append)
    assert not promise.ready
    promise("value")
    promise.then(called.append)
    assert promise.ready and promise.value == (("value",), {})
    assert called == [(("value",), {}), "value", "value"]


@KINDS
def test_the_next_gets_what_the_one_before_returned(kind: type[Any]) -> None:
    called: list[Any] = []
    promise = kind(lambda value: value + 1)
    promise.then(lambda value: value * 10).then(called.append)
    assert promise(1) == 2
    assert called == [20]


@KINDS
def test_an_error_of_a_callback_goes_to_its_handler(kind: type[Any]) -> None:
    errors: list[Any] = []
    promise = kind()
    failed = promise.then(fail, on_error=errors.append)
    promise("value")
    assert [type(error) for error in errors] == [KeyError]
    assert (failed.failed, failed.ready, failed.reason) == (True, False, errors[0])
    failed.then(fail, on_error=errors.append)
    assert errors == [errors[0]] * 2


@KINDS
def test_an_error_without_a_handler_is_raised_to_the_caller(kind: type[Any]) -> None:
    promise = kind()
    promise.then(fail)
    with pytest.raises(KeyError):
        promise("value")
    with pytest.raises(KeyError):
        promise.then(fail)


@KINDS
def test_throw_reaches_those_that_wait(kind: type[Any]) -> None:
    errors: list[Any] = []
    promise = kind(on_error=errors.append)
    promise.then(fail, on_error=errors.append)
    promise.throw(ValueError("bad"))
    assert [repr(error) for error in errors] == ["ValueError('bad')"] * 2
    assert promise.failed and promise.reason is errors[0]
    with pytest.raises(ValueError, match="bad"):
        kind().throw(ValueError("bad"))
    kind().throw(ValueError("bad"), propagate=False)
    try:
        fail()
    except KeyError:
        with pytest.raises(KeyError):
            kind().throw()


@KINDS
def test_a_cancelled_promise_calls_nothing(kind: type[Any]) -> None:
    called: list[Any] = []
    promise = kind(called.append)
    waiting = promise.then(called.append)
    promise.cancel()
    promise("value")
    promise.throw(ValueError("bad"))
    assert promise.then(called.append).cancelled
    assert (called, waiting.cancelled, promise.ready) == ([], True, False)


@pytest.mark.parametrize("given", [vine.promise, vine.barrier], ids=["promise", "barrier"])
def test_a_thenable_of_vine_is_a_callback(given: Callable[[], Any]) -> None:
    promise, waiting = Promise(), given()
    assert promise.then(waiting) is waiting
    if isinstance(waiting, vine.barrier):
        waiting.size, waiting.finalized = 1, True
    promise("value")
    assert waiting.ready


def test_every_callback_is_called_though_one_raises() -> None:
    called: list[Any] = []
    promise = Promise()
    promise.then(fail)
    promise.then(called.append)
    with pytest.raises(KeyError):
        promise("value")
    assert called == ["value"]


def test_it_calls_its_callbacks_once() -> None:
    called: list[Any] = []
    promise = Promise()
    promise.then(called.append)
    promise(1)
    promise(2)
    assert called == [1]


def test_a_callback_may_wait_for_another_thread_that_adds_one() -> None:
    promise = Promise()
    seen: list[str] = []

    def waits(_value: object) -> None:
        other = threading.Thread(target=promise.then, args=(lambda value: seen.append(value),), daemon=True)
        other.start()
        other.join(60)
        seen.append("joined" if not other.is_alive() else "stuck")

    promise.then(waits)
    promise("value")
    assert seen == ["value", "joined"]
