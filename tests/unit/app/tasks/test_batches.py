"""Tasks with batches outside of workers: how they are made, what their bodies get, and runs in the caller."""

from __future__ import annotations

from typing import Any

import pytest

from turbo import Batch, BatchRequest, Turbo
from turbo.app.tasks.batches import outcomes_of
from turbo.exceptions import Retry


@pytest.fixture
def app() -> Turbo:
    return Turbo("batched", set_as_current=False)


def test_a_task_has_its_batch_and_the_worker_is_told_it(app: Turbo) -> None:
    @app.task(name="pair", batch=(3, 2.5))
    def pair(requests: list[BatchRequest]) -> None:
        """Nothing."""

    assert pair.batch == Batch(3, 2.5)
    assert app.task_options()["pair"].batch == Batch(3, 2.5)


def test_a_class_gives_it_too(app: Turbo) -> None:
    class Collecting(app.Task):  # type: ignore[name-defined, misc]
        batch = Batch(3, 1.0)

    @app.task(name="collects", base=Collecting)
    def collects(requests: list[BatchRequest]) -> None:
        """Nothing."""

    @app.task(name="single", base=Collecting, batch=None)
    def single() -> None:
        """Nothing."""

    assert collects.batch == Batch(3, 1.0)
    assert app.task_options()["single"].batch is None


@pytest.mark.parametrize(("batch", "error"), [(5, TypeError), ((0, 1), ValueError), ("5", TypeError)])
def test_a_wrong_batch_is_refused_where_the_task_is_made(app: Turbo, batch: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        app.task(name="wrong", batch=batch)(lambda requests: None)


def test_models_are_of_no_use_to_a_batch(app: Turbo) -> None:
    with pytest.raises(TypeError, match="pydantic"):
        app.task(name="models", batch=(2, 1), pydantic=True)(lambda requests: None)


def test_calls_take_any_arguments(app: Turbo) -> None:
    @app.task(name="any", batch=(2, 1))
    def anything(requests: list[BatchRequest]) -> None:
        """Nothing."""

    app.conf["task_always_eager"] = True
    assert anything.delay(1, 2, x=3).get() is None


def test_apply_runs_a_batch_of_one(app: Turbo) -> None:
    @app.task(name="one", batch=(100, 60), bind=True)
    def one(self: Any, requests: list[BatchRequest]) -> list[Any]:
        (request,) = requests
        return [[request.id, request.name, list(request.args), request.kwargs, request.request_dict["id"]]]

    found = one.apply((1,), {"x": 2}, task_id="mine").get()
    assert found == ["mine", "one", [1], {"x": 2}, "mine"]


def test_the_outcome_of_one_may_be_an_error_or_a_retry(app: Turbo) -> None:
    @app.task(name="fails", batch=(2, 1))
    def fails(requests: list[BatchRequest]) -> list[Exception]:
        return [KeyError("mine")]

    @app.task(name="again", batch=(2, 1))
    def again(requests: list[BatchRequest]) -> list[Any]:
        return [request.retries if request.retries == 2 else Retry(when=0) for request in requests]

    @app.task(name="by_itself", batch=(2, 1), autoretry_for=(KeyError,), max_retries=2)
    def by_itself(requests: list[BatchRequest]) -> list[Any]:
        return [request.retries if request.retries else KeyError("once") for request in requests]

    assert isinstance(fails.apply().result, KeyError)
    assert again.apply().get() == 2
    assert by_itself.apply().get() == 1


def test_a_direct_call_takes_the_requests(app: Turbo) -> None:
    @app.task(name="direct", batch=(2, 1))
    def direct(requests: list[int]) -> int:
        return sum(requests)

    assert direct([1, 2]) == 3


def test_outcomes_are_as_many_as_requests() -> None:
    assert list(outcomes_of(None, 2)) == [None, None]
    assert list(outcomes_of((1, 2), 2)) == [1, 2]
    with pytest.raises(ValueError, match="1 outcomes for 2 requests"):
        outcomes_of([1], 2)
    with pytest.raises(TypeError, match="not str"):
        outcomes_of("ab", 2)
