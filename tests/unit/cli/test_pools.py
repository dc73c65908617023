"""Pools of Celery's: which are processes, one process or threads, and what replaces the others."""

from __future__ import annotations

import pytest

from turbo.cli.pools import Pool, pool_kind, without_effect


@pytest.mark.row("PL24")
@pytest.mark.parametrize("pool", [None, "prefork", "processes", "celery.concurrency.prefork:TaskPool"])
def test_processes(pool: str | None) -> None:
    assert pool_kind(pool) is Pool.PROCESSES


@pytest.mark.row("PL24")
@pytest.mark.parametrize("pool", ["solo", "celery.concurrency.solo:TaskPool"])
def test_one_process(pool: str) -> None:
    assert pool_kind(pool) is Pool.SOLO


@pytest.mark.row("PL24")
@pytest.mark.parametrize("pool", ["threads", "celery.concurrency.thread:TaskPool"])
def test_threads(pool: str) -> None:
    assert pool_kind(pool) is Pool.THREADS


@pytest.mark.row("PL24")
@pytest.mark.parametrize(
    ("pool", "instead"),
    [
        ("gevent", "use -P threads -c N, or `async def` tasks, of which each child runs --async-concurrency"),
        ("eventlet", "or a larger -c"),
        ("celery.concurrency.gevent:TaskPool", "use -P threads -c N"),
        ("proj.pools:Mine", "use prefork, threads, or solo for one child"),
    ],
)
def test_any_other_is_refused_with_what_replaces_it(pool: str, instead: str) -> None:
    with pytest.raises(ValueError, match="not supported") as refused:
        pool_kind(pool)
    assert str(refused.value).startswith(pool)
    assert instead in str(refused.value)


@pytest.mark.row("PL24")
def test_one_line_names_the_options_that_the_pool_does_not_follow() -> None:
    def said(pool: str, **given: object) -> list[str]:
        nothing = dict.fromkeys(("concurrency", "autoscale", "processes", "async_concurrency"))
        return without_effect(pool, {**nothing, **given})

    assert said("prefork", concurrency=4, autoscale=(4, 1), async_concurrency=7) == []
    assert said("solo") == []
    assert said("solo", concurrency=1) == []
    (line,) = said("solo", concurrency=4, autoscale=(4, 1))
    assert line.startswith("-c 4 and --autoscale without effect: -P solo is one child")
    assert said("threads", concurrency=4, processes=2) == []
    (line,) = said("threads", concurrency=4, async_concurrency=7)
    assert line.startswith("--async-concurrency without effect: with -P threads")
    (line,) = said("prefork", concurrency=4, processes=2)
    assert line.startswith("--processes without effect: it divides the threads")
