"""Pools of Celery's: which are processes, which is one process, and what replaces the others."""

from __future__ import annotations

import pytest

from turbo.cli.pools import is_single, without_effect


@pytest.mark.row("PL24")
@pytest.mark.parametrize("pool", [None, "prefork", "processes", "celery.concurrency.prefork:TaskPool"])
def test_processes(pool: str | None) -> None:
    assert not is_single(pool)


@pytest.mark.row("PL24")
@pytest.mark.parametrize("pool", ["solo", "celery.concurrency.solo:TaskPool"])
def test_one_process(pool: str) -> None:
    assert is_single(pool)


@pytest.mark.row("PL24")
@pytest.mark.parametrize(
    ("pool", "instead"),
    [
        ("gevent", "use -c N with `async def` tasks, of which each child runs --async-concurrency"),
        ("eventlet", "or a larger -c"),
        ("celery.concurrency.gevent:TaskPool", "use -c N with `async def` tasks"),
        ("threads", "use -c N, where each of the N children is a process"),
        ("celery.concurrency.thread:TaskPool", "use -c N, where each of the N children is a process"),
        ("proj.pools:Mine", "use prefork, or solo for one child"),
    ],
)
def test_any_other_is_refused_with_what_replaces_it(pool: str, instead: str) -> None:
    with pytest.raises(ValueError, match="not supported") as refused:
        is_single(pool)
    assert str(refused.value).startswith(pool)
    assert instead in str(refused.value)


@pytest.mark.row("PL24")
def test_one_line_names_the_options_that_one_child_does_not_follow() -> None:
    assert without_effect("prefork", concurrency=4, autoscale=(4, 1)) == []
    assert without_effect("solo", concurrency=None, autoscale=None) == []
    assert without_effect("solo", concurrency=1, autoscale=None) == []
    (line,) = without_effect("solo", concurrency=4, autoscale=(4, 1))
    assert line.startswith("-c 4 and --autoscale without effect: -P solo is one child")
