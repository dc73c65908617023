from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from turbo.app.tasks.call_options import (
    adapt_arguments,
    argument_check,
    as_time,
    check_arguments,
    check_seconds,
    seconds_until,
)

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def plain(a: int, b: int = 2, /, c: Any = NOW, *rest: int, d: int, e: int = 5, **more: int) -> None:
    raise AssertionError("the body must not run")


class Callable_:
    def __call__(self, x: int) -> None: ...


@pytest.mark.row("CA23")
class TestArgumentCheck:
    @pytest.mark.parametrize(
        ("args", "kwargs"), [((1,), {"d": 1}), ((1, 2, 3, 4), {"d": 1, "z": 1}), ((1,), {"c": 1, "d": 2, "e": 3})]
    )
    def test_what_fits(self, args: Any, kwargs: Any) -> None:
        check = argument_check(plain, bound=False)
        assert check is not None
        check(*args, **kwargs)

    @pytest.mark.parametrize(("args", "kwargs"), [((), {"d": 1}), ((1,), {}), ((1, 2, 3), {"c": 1, "d": 1})])
    def test_what_does_not(self, args: Any, kwargs: Any) -> None:
        check = argument_check(plain, bound=False)
        assert check is not None
        with pytest.raises(TypeError, match=r"plain\(\)"):
            check(*args, **kwargs)

    def test_bound_leaves_the_task_out(self) -> None:
        check = argument_check(lambda self, x: None, bound=True)
        assert check is not None
        check(1)
        with pytest.raises(TypeError):
            check(1, 2)

    def test_callable_objects_and_builtins(self) -> None:
        check = argument_check(Callable_(), bound=False)
        assert check is not None
        with pytest.raises(TypeError):
            check()
        assert argument_check(dict, bound=False) is None


@pytest.mark.row("CA2")
def test_args_and_kwargs_have_a_type() -> None:
    assert check_arguments(None, None) == ((), {})
    with pytest.raises(TypeError, match="list or tuple"):
        check_arguments("text", None)
    with pytest.raises(TypeError, match="mapping"):
        check_arguments((), [1])


@pytest.mark.row("RT21")
class TestAdaptArguments:
    @staticmethod
    def body(a: int, b: int = 0, *, c: int = 0) -> None: ...

    def test_nothing_given_nothing_changed(self) -> None:
        assert adapt_arguments(self.body, None, None, (1,), {"b": 2}) == (None, None)

    def test_new_args_displace_old_kwargs_of_the_same_name(self) -> None:
        assert adapt_arguments(self.body, (9, 8), None, (1,), {"b": 2, "c": 3}) == ((9, 8), {"c": 3})

    def test_new_kwargs_displace_old_args_of_the_same_name(self) -> None:
        assert adapt_arguments(self.body, None, {"b": 8}, (1, 2), {}) == ((1, 8), {})
        assert adapt_arguments(self.body, None, {"c": 8}, (1, 2), {}) == ((1, 2), {"c": 8})

    def test_both_given_both_taken(self) -> None:
        assert adapt_arguments(self.body, (1,), {"c": 1}, (5, 6), {"c": 7}) == ((1,), {"c": 1})

    def test_what_cannot_be_bound_passes(self) -> None:
        assert adapt_arguments(self.body, None, {"c": 1}, (1, 2, 3, 4), {}) == (None, {"c": 1})


@pytest.mark.row("CA6", "CA8")
def test_moments() -> None:
    assert as_time(60, NOW, "expires") == NOW + timedelta(minutes=1)
    assert as_time(NOW, NOW, "expires") is NOW
    assert as_time("2030-01-01", NOW, "expires") == "2030-01-01"
    with pytest.raises(TypeError, match="expires"):
        as_time(object(), NOW, "expires")
    with pytest.raises(ValueError, match="countdown"):
        check_seconds(-(2**31) - 1, "countdown")
    for seconds in (1e300, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="countdown is out of range"):
            check_seconds(seconds, "countdown")


def test_seconds_until() -> None:
    assert seconds_until(NOW + timedelta(seconds=5), NOW) == 5
    assert seconds_until("2030-01-01T00:00:07", NOW) == 7
    assert seconds_until("2030-01-01T01:00:00+01:00", NOW) == 0
