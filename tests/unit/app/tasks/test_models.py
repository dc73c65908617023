"""Tasks whose arguments and results are pydantic models."""

from __future__ import annotations

import asyncio
import builtins
from typing import Any, Optional, Union

import pytest
from pydantic import BaseModel, RootModel, ValidationError, ValidationInfo, field_validator

from turbo import Turbo
from turbo.exceptions import EncodeError, ImproperlyConfigured
from turbo.protocol import content


class Point(BaseModel):
    x: int
    y: int = 0


class Named(Point):
    name: str = "p"


class Points(RootModel[list[Point]]):
    pass


class Curious(BaseModel):
    seen: Any = None

    @field_validator("seen", mode="before")
    @classmethod
    def look(cls, _value: Any, info: ValidationInfo) -> Any:
        context = info.context or {}
        return sorted(context), context.get("celery_task_name"), context.get("mine")


@pytest.fixture
def app() -> Turbo:
    return Turbo("models", set_as_current=False)


@pytest.mark.row("PY1", "PY2", "PY10")
def test_arguments_are_validated_and_the_result_is_dumped(app: Turbo) -> None:
    @app.task(pydantic=True)
    def move(point: Point, by: int, *, to: Point) -> Point:
        assert type(point) is Point and type(to) is Point
        return Point(x=point.x + by, y=to.y)

    assert move.run({"x": "3"}, 4, to={"x": 0, "y": 9}) == {"x": 7, "y": 9}


@pytest.mark.row("PY1")
def test_a_bound_task_and_models_given_as_they_are(app: Turbo) -> None:
    @app.task(pydantic=True, bind=True)
    def name_of(self: Any, point: Point) -> str:
        return f"{self.name} {type(point).__name__}"

    assert name_of(Named(x=1)) == f"{__name__}.name_of Named"


@pytest.mark.row("PY4")
def test_optional_ones_take_none(app: Turbo) -> None:
    @app.task(pydantic=True)
    def old(point: Optional[Point] = None) -> Optional[Point]:  # noqa: UP045 - the older spelling
        return point

    @app.task(pydantic=True)
    def new(point: Point | None) -> Point | None:
        return point

    assert old.run() is None and old.run(None) is None and new.run(None) is None
    assert old.run({"x": 1}) == new.run({"x": 1}) == {"x": 1, "y": 0}


@pytest.mark.row("PY5")
def test_unions_and_generics_are_left_alone_and_root_models_are_not(app: Turbo) -> None:
    @app.task(pydantic=True)
    def kinds(one: Union[Point, Named], many: list[Point], root: Points) -> list[str]:  # noqa: UP007
        return [type(one).__name__, type(many[0]).__name__, type(root.root[0]).__name__]

    assert kinds.run({"x": 1}, [{"x": 1}], [{"x": 1}]) == ["dict", "dict", "Point"]


@pytest.mark.row("PY6")
def test_a_result_of_another_class_is_left_and_cannot_be_encoded(app: Turbo) -> None:
    @app.task(pydantic=True)
    def wrong() -> Named:
        return Point(x=1)  # type: ignore[return-value]

    returned = wrong.run()
    assert returned == Point(x=1)
    with pytest.raises(EncodeError):
        content.encode(returned, "json")


@pytest.mark.row("PY12")
def test_what_does_not_fit_raises(app: Turbo) -> None:
    @app.task(pydantic=True)
    def move(point: Point) -> None:
        raise AssertionError("not reached")

    with pytest.raises(ValidationError, match="Point"):
        move.run({"x": "no number"})
    with pytest.raises(ValidationError):
        move.run(None)


@pytest.mark.row("PY7")
def test_strictness(app: Turbo) -> None:
    def move(point: Point) -> int:
        return point.x

    assert app.task(pydantic=True, name="lax")(move).run({"x": "3"}) == 3
    with pytest.raises(ValidationError):
        app.task(pydantic=True, pydantic_strict=True, name="strict")(move).run({"x": "3"})


@pytest.mark.row("PY8")
def test_validators_see_the_app_the_task_and_the_context(app: Turbo) -> None:
    @app.task(pydantic=True, name="looking", pydantic_context={"mine": 5})
    def look(curious: Curious) -> Any:
        return curious.seen

    assert look.run({"seen": 0}) == (["celery_app", "celery_task_name", "mine"], "looking", 5)


@pytest.mark.row("PY9")
def test_how_a_result_is_dumped_can_be_said(app: Turbo) -> None:
    given = {"exclude_defaults": True}

    @app.task(pydantic=True, pydantic_dump_kwargs=given)
    def sparse() -> Point:
        return Point(x=1)

    assert sparse.run() == {"x": 1}
    assert given == {"exclude_defaults": True}


@pytest.mark.row("PY3")
def test_callers_may_give_models(app: Turbo) -> None:
    @app.task(pydantic=True, bind=True)
    def move(self: Any, point: Point, *rest: Any, to: Point | None = None) -> None:
        """Never run."""

    models = move.__models__
    assert models is not None
    assert models.sendable((Point(x=1), Point(x=2)), {"to": Point(x=3)}, bound=True) == (
        ({"x": 1, "y": 0}, Point(x=2)),
        {"to": {"x": 3, "y": 0}},
    )
    # It would come back as a Point, so it is not sent as one.
    assert models.sendable([Named(x=1)], None, bound=True) == ([Named(x=1)], {})
    untouched = ({"x": 1},)
    assert models.sendable(untouched, None, bound=True) == (untouched, None)


@pytest.mark.row("PY11")
def test_without_pydantic_the_task_is_refused(app: Turbo, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def fail(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "pydantic":
            raise ModuleNotFoundError("No module named 'pydantic'", name="pydantic")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", fail)
    with pytest.raises(ImproperlyConfigured, match="turbo-worker\\[pydantic\\]"):
        app.task(pydantic=True)(lambda: None)


def test_an_annotation_that_names_nothing_leaves_the_arguments_alone(app: Turbo) -> None:
    def odd(point: Nowhere) -> Any:  # type: ignore[name-defined]  # noqa: F821
        return point

    assert app.task(pydantic=True)(odd).run({"x": 1}) == {"x": 1}


def test_a_coroutine_s_arguments_and_result(app: Turbo) -> None:
    @app.task(pydantic=True)
    async def mirror(point: Point) -> Point:
        return Point(x=point.y, y=point.x)

    assert asyncio.run(mirror.run({"x": 1, "y": "2"})) == {"x": 2, "y": 1}
