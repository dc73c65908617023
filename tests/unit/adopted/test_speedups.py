"""What replaces parts of Celery's tracer gives the same values."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from celery.app import trace
from celery.app.task import Context
from celery.utils.saferepr import saferepr as celerys_saferepr
from celery.utils.threads import LocalStack, release_local
from hypothesis import given
from hypothesis import strategies as st

from turbo.adopted import speedups

#: Celery's own, before anything is installed.
_ORIGINAL = SimpleNamespace(
    __init__=Context.__init__, update=Context.update, _get_custom_headers=Context._get_custom_headers
)
_STACK = {name: vars(LocalStack)[name] for name in ("push", "pop", "top")}


class CelerysStack(LocalStack):  # type: ignore[misc, unused-ignore]
    """A stack with Celery's own methods."""

    push, pop, top = _STACK["push"], _STACK["pop"], _STACK["top"]


@pytest.fixture(scope="module", autouse=True)
def _installed() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        # Set to what they are, so that they are put back.
        patch.setattr(trace, "saferepr", trace.saferepr)
        patch.setattr(Context, "__init__", Context.__init__)
        patch.setattr(Context, "_get_custom_headers", Context._get_custom_headers)
        for name, method in _STACK.items():
            patch.setattr(LocalStack, name, method)
        speedups.install()
        yield


class Number(int):
    """An integer with a text of its own."""

    def __str__(self) -> str:
        return "own"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=20)
    | st.just(Decimal("1.5")) | st.just(Number(3)) | st.just(10**40) | st.just(-(10**40)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


@given(VALUES, st.sampled_from([None, 0, 1, 3, 31, 32, 46, 1024]))
def test_a_result_is_shown_as_by_celery(value: Any, most: int | None) -> None:
    assert trace.saferepr is not celerys_saferepr
    assert trace.saferepr(value, most) == celerys_saferepr(value, most)


class Plain(Context):
    """Context as Celery has it: subclasses are left alone."""


NAMES = ["id", "task", "headers", "timelimit", "lang", "x-own", "another", "compression", "stamps", "time_limit"]


@given(
    st.dictionaries(
        st.sampled_from(NAMES), st.none() | st.just([1, 2]) | st.just((3.5, None)) | st.just([]) | st.just({"a": 1})
    ),
    st.dictionaries(st.sampled_from(["args", "kwargs", "called_directly", "x-more"]), st.integers()),
)
def test_a_request_has_celerys_fields(fields: dict[str, Any], more: dict[str, Any]) -> None:
    assert vars(Context(dict(fields), **more)) == vars(Plain(dict(fields), **more))
    assert Context().headers is None
    assert Context(fields)._get_custom_headers(fields) == Plain(fields)._get_custom_headers(fields)


def test_an_attribute_that_is_added_to_the_class_is_no_header(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {"id": "1", "x-own": 1, "tenant": "a"}
    assert Context(fields).headers == {"x-own": 1, "tenant": "a"}
    monkeypatch.setattr(Context, "tenant", None, raising=False)
    assert vars(Context(fields)) == vars(Plain(fields))
    assert Context(fields).headers == {"x-own": 1}


def test_a_method_that_is_replaced_later_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []
    update = Context.update

    def noted(self: Context, *args: Any, **kwargs: Any) -> None:
        calls.append(dict(*args, **kwargs))
        update(self, *args, **kwargs)

    monkeypatch.setattr(Context, "update", noted)
    assert Context({"id": "1"}).id == "1"
    assert calls == [{"id": "1"}]


@pytest.mark.parametrize("name", ["__init__", "update", "_get_custom_headers"])
def test_what_a_program_has_replaced_before_stays(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for each in ("__init__", "_get_custom_headers"):
        monkeypatch.setattr(Context, each, getattr(_ORIGINAL, each))
    replaced = getattr(_ORIGINAL, name)

    def other(self: Context, *args: Any, **kwargs: Any) -> Any:
        return replaced(self, *args, **kwargs)

    monkeypatch.setattr(Context, name, other)
    monkeypatch.setattr(trace, "saferepr", lambda value, *_args, **_kwargs: f"<{value}>")
    speedups.install()
    assert vars(Context)[name] is other
    assert (Context.__init__ is _ORIGINAL.__init__) is (name != "__init__")
    assert trace.saferepr(None, 1024) == "<None>"


def test_one_requests_headers_are_not_anothers() -> None:
    first, second = (Context({"id": "1", "x-own": number}) for number in (1, 2))
    assert (first.headers, second.headers) == ({"x-own": 1}, {"x-own": 2})


#: What is done to a stack, and in which thread.
STEPS = st.lists(
    st.tuples(st.sampled_from(["push", "push", "pop", "top", "stack", "len", "release", "attribute"]), st.booleans()),
    max_size=30,
)


@given(STEPS)
def test_a_stack_holds_what_celerys_holds(steps: list[tuple[str, bool]]) -> None:
    def step(stack: Any, number: int, name: str) -> Any:
        match name:
            case "push":
                return list(stack.push(number))
            case "pop":
                return stack.pop()
            case "release":
                return release_local(stack)
            case "attribute":
                # Another attribute of the thread, as a program may have set one.
                stack._local.other = number
                return stack._local.other
            case "len":
                return len(stack)
        return getattr(stack, name)

    ours, theirs = LocalStack(), CelerysStack()
    assert type(ours).push is not type(theirs).push
    with ThreadPoolExecutor(1) as thread:
        for number, (name, beside) in enumerate(steps):
            if beside:
                seen = [thread.submit(step, stack, number, name).result() for stack in (ours, theirs)]
            else:
                seen = [step(stack, number, name) for stack in (ours, theirs)]
            assert seen[0] == seen[1]
        assert ours._local.__storage__ == theirs._local.__storage__


def test_a_stack_that_a_program_has_changed_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, method in _STACK.items():
        monkeypatch.setattr(LocalStack, name, method)

    def pop(self: Any) -> Any:
        return _STACK["pop"](self)

    monkeypatch.setattr(LocalStack, "pop", pop)
    speedups.install()
    assert vars(LocalStack) | {"push": _STACK["push"], "pop": pop, "top": _STACK["top"]} == dict(vars(LocalStack))
