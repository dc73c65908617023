"""Canvases sent by turbo's client, run by Celery's worker and by turbo's: what they give, and how results are read."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.harness.celery_env import celery_python
from tests.harness.processes import wait_until
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.redis_server import RedisServer
from tests.harness.worker import TURBO, WorkerProcess
from turbo import GroupResult, chain, chord, group
from turbo.exceptions import ChordError, TimeoutError
from turbo.protocol.faults import from_wire, to_wire
from turbo.result import ResultSet, allow_join_result, result_from_tuple

HERE = Path(__file__).parent
WAIT = 50


@pytest.fixture(scope="module", params=["celery", "turbo", "both"])
def it(request: pytest.FixtureRequest, rabbitmq: RabbitMQ, redis_server: RedisServer) -> Iterator[ModuleType]:
    """The app's module, made with turbo, with a worker of one kind, of the other or of each beside it."""
    rabbitmq.ensure_running()
    redis_server.ensure_running()
    places = {"BROKER": rabbitmq.new_vhost(), "RESULTS": redis_server.new_database()}
    kinds = ["celery", "turbo"] if request.param == "both" else [request.param]
    with ExitStack() as stack:
        workers = [stack.enter_context(_worker(kind, places)) for kind in kinds]
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in (*places.items(), ("CANVAS_API", "turbo")):
            patch.setenv(name, value)
        module = _import(request.param)
        for worker in workers:
            worker.wait_for_line(r"ready\.$", 90)
        yield module
        module.app.close()
    rabbitmq.delete_vhost(places["BROKER"])


def _worker(kind: str, places: dict[str, str]) -> WorkerProcess:
    env = {**places, "CANVAS_API": kind, "C_FORCE_ROOT": "1", "PYTHONWARNINGS": "ignore"}
    app = ["-A", "canvas_app"]
    command = [*TURBO, *app] if kind == "turbo" else [str(celery_python("current")), "-m", "celery", *app, "worker"]
    name = ("-n", f"{kind}@%h")
    return WorkerProcess("-c2", "-l", "info", *name, directory=HERE, env=env, command=command)


def _import(kind: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"canvas_app_for_{kind}", HERE / "canvas_app.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.row("CV2", "CV3")
def test_chains(it: ModuleType) -> None:
    last = (it.add.s(2, 2) | it.add.s(4) | it.add.si(5, 5) | it.add.s(8)).delay()
    assert (last.get(timeout=WAIT), last.parent.get(timeout=WAIT), last.parent.parent.get(timeout=WAIT)) == (18, 10, 8)
    assert [node.id for node, _ in last.parent.parent.parent.collect()][-1] == last.id
    assert it.add.s(1, 1).apply_async(link=it.add.s(1) | it.add.s(2)).get(timeout=WAIT) == 2
    part = it.add.s(4) | it.add.s(8)
    assert (~part.clone((1,)), part(16).get(timeout=WAIT), part.delay(y=1).get(timeout=WAIT)) == (13, 28, 13)
    reported = (it.add.s(1, 1) | it.report.s()).delay()
    seen = reported.get(timeout=WAIT)
    assert (seen["id"], seen["parent_id"], seen["root_id"], seen["args"]) == (
        reported.id, reported.parent.id, reported.parent.id, [2]
    )  # fmt: skip


@pytest.mark.row("CA18")
def test_methods_of_a_task_class_are_called_whoever_sends(it: ModuleType) -> None:
    add, whose = it.add, it.whose
    linked = add.apply_async((1, 1), link=whose.s())
    calls = [
        whose.delay(),
        (add.s(1, 1) | whose.s()).delay(),
        chord([add.s(1, 1), add.s(2, 2)], whose.s()).delay(),
        (add.s(1, 1) | group(whose.s(), whose.s()) | it.echo.s()).delay().parent[0],
    ]
    assert [each.get(timeout=WAIT) for each in calls] == [["acme", "shadowed"]] * 4
    linked.get(timeout=WAIT)
    wait_until("what is linked is sent", lambda: bool(linked.children), WAIT)
    assert linked.children[0].get(timeout=WAIT) == ["acme", "shadowed"]


def test_handles_that_a_task_returns_come_as_celery_writes_them(it: ModuleType) -> None:
    call = it.handle.delay("call").get(timeout=WAIT)
    assert result_from_tuple(call, it.app).get(timeout=WAIT) == 2
    several = it.handle.delay("group").get(timeout=WAIT)
    assert result_from_tuple(several, it.app).get(timeout=WAIT) == [2, 4]
    assert it.handle.delay("own").get(timeout=WAIT) == {"described": True}
    in_chord = chord([it.handle.s("call"), it.handle.s("own")], it.echo.s()).delay().get(timeout=WAIT)[0]
    assert result_from_tuple(in_chord[0], it.app).get(timeout=WAIT) == 2
    assert in_chord[1] == {"described": True}


def test_error_callbacks_of_a_broken_chords_body_are_its_children(it: ModuleType) -> None:
    result = chord([it.add.s(1, 1), it.fail.s()], it.total.s().on_error(it.tell.s())).delay()
    # Where other tests have loaded Celery, its class is the one that is made again.
    known = type(from_wire(to_wire(ChordError())))
    assert isinstance(result.get(timeout=WAIT, propagate=False), known)
    assert result.children[0].children[0].get(timeout=WAIT) == result.id


@pytest.mark.row("CV4")
def test_groups(it: ModuleType) -> None:
    result = group(it.report.s(number) for number in range(5)).delay()
    seen = result.get(timeout=WAIT)
    assert [each["args"] for each in seen] == [[number] for number in range(5)]
    assert [(each["group"], each["group_index"]) for each in seen] == [(result.id, number) for number in range(5)]
    assert (result.ready(), result.successful(), result.failed(), result.completed_count()) == (True, True, False, 5)
    nested = group(it.add.s(1, 1), group(it.add.s(2, 2), it.add.s(3, 3)))(timeout=None)
    assert nested.join(timeout=WAIT) == [2, 4, 6]
    ends = (it.add.s(1, 1) | group(it.add.s(1), it.add.s(2))).delay()
    assert (ends.get(timeout=WAIT), ends.parent.get(timeout=WAIT)) == ([3, 4], 2)
    assert group([]).delay().get() == []
    with it.app.pipeline():
        several = [group(it.add.s(number, each) for each in range(3)).delay() for number in range(3)]
    assert [each.get(timeout=WAIT) for each in several] == [[0, 1, 2], [1, 2, 3], [2, 3, 4]]


def test_results_of_groups(it: ModuleType) -> None:
    result = group(it.add.s(1, 1), it.fail.s(), it.add.s(2, 2)).delay()
    with pytest.raises(KeyError):
        result.get(timeout=WAIT)
    values = result.get(timeout=WAIT, propagate=False)
    assert (values[0], type(values[1]), values[2]) == (2, KeyError, 4)
    assert (result.failed(), result.successful(), result.completed_count(), result.waiting()) == (True, False, 2, False)
    seen: dict[str, Any] = {}
    assert result.get(timeout=WAIT, propagate=False, callback=seen.__setitem__) is None
    assert set(seen) == {each.id for each in result} == {task_id for task_id, _ in result.iter_native(timeout=WAIT)}
    result.save()
    again = GroupResult.restore(result.id, app=it.app)
    assert again == result and again is not result
    assert result_from_tuple(result.as_tuple(), it.app) == result
    result.delete()
    assert GroupResult.restore(result.id, app=it.app) is None
    asked = asyncio.run(_asked(ResultSet([result[0], result[2]], app=it.app)))
    assert asked == [2, 4]
    nobody = GroupResult("g", [it.app.AsyncResult("nobody")], app=it.app)
    with pytest.raises(TimeoutError):
        nobody.get(timeout=0.1)
    with pytest.raises(TimeoutError):
        asyncio.run(_asked(nobody, 0.1))
    result.forget()
    assert not result.ready()


async def _asked(results: ResultSet, timeout: float = WAIT) -> Any:
    return await results.aget(timeout=timeout)


@pytest.mark.row("CV5", "CV6", "CV7")
def test_chords(it: ModuleType) -> None:
    add, total, echo = it.add, it.total, it.echo
    result = chord([add.s(number, number) for number in range(6)])(echo.s("more"))
    assert result.get(timeout=WAIT) == [[0, 2, 4, 6, 8, 10], "more"]
    assert result.parent.get(timeout=WAIT) == [0, 2, 4, 6, 8, 10]
    assert chord(add.s(number, number) for number in range(4))(total.si([5])).get(timeout=WAIT) == 5
    whole = add.s(1, 1) | group(add.s(1), add.s(2)) | total.s() | group(add.s(10), add.s(20)) | total.s() | add.s(100)
    assert whole.delay().get(timeout=WAIT) == 144
    assert chord([], total.s()).delay().get(timeout=WAIT) == 0


@pytest.mark.row("CV5", "CV6")
def test_canvases_in_canvases(it: ModuleType) -> None:
    add, total, echo = it.add, it.total, it.echo
    inner = chord([add.s(1, 1), add.s(2, 2)], total.s())
    canvases = {
        "chains": (chord([add.s(1, 1) | add.s(2), add.s(3, 3)], echo.s()), [[4, 6]]),
        "a chord": (chord([add.s(1, 1), inner.clone()], echo.s()), [[2, 6]]),
        "a chain with a chord": (
            chord([add.s(1) | group(add.s(1), add.s(2)) | total.s() | add.s(1), add.s(5)], echo.s()),
            [[6, 5]],
        ),
        "a chain to a group": (chord([add.s(1, 1) | group(add.s(2), add.s(3)), add.s(1, 5)], echo.s()), [[[4, 5], 6]]),
        "a chord as body": (
            chord([add.s(1, 1), add.s(2, 2)], chord([echo.s(1), echo.s(2)], echo.s())),
            [[[[2, 4], 1], [[2, 4], 2]]],
        ),
        "a chain as body": (chord([add.s(1, 1), add.s(2, 2)], total.s() | add.s(1)), 7),
        "a group as body": (chord([add.s(1, 1)], group(echo.s(1), echo.s(2))), [[[2], 1], [[2], 2]]),
        "chords in a group": (group(inner.clone(), add.s(1, 5)), [6, 6]),
        "groups after groups": (
            chain(group(add.s(1), add.s(2)), group(echo.s(3), echo.s(4)), echo.s()),
            [[[[1, 2], 3], [[1, 2], 4]]],
        ),
    }
    sent = {name: canvas.apply_async() for name, (canvas, _) in canvases.items()}
    got = {name: result.get(timeout=WAIT) for name, result in sent.items()}
    assert got == {name: expected for name, (_, expected) in canvases.items()}


@pytest.mark.row("CV10", "CV11")
def test_a_failed_part(it: ModuleType) -> None:
    result = chord([it.add.s(1, 1), it.fail.s()], it.total.s() | it.add.s(1)).delay()
    with pytest.raises(Exception, match="Dependency") as raised:
        result.get(timeout=WAIT, follow_parents=False)
    # Of Celery's module or of turbo's: the document names Celery's, which other tests may have imported.
    assert type(raised.value).__name__ == "ChordError"
    late = (it.fail.s() | it.add.s(1) | it.add.s(2)).delay()
    with pytest.raises(KeyError):
        late.get(timeout=WAIT, follow_parents=False)


@pytest.mark.row("CV17")
def test_stamps_reach_tasks(it: ModuleType) -> None:
    result = (it.report.s() | group(it.report.s(), it.report.s())).stamp(customer="acme", numbers=[1, 2]).delay()
    stamps = {"customer": "acme", "numbers": [1, 2]}
    assert [seen["stamps"] for seen in (*result.get(timeout=WAIT), result.parent.get(timeout=WAIT))] == [stamps] * 3


@pytest.mark.row("CV12")
def test_maps(it: ModuleType) -> None:
    assert it.echo.map([1, 2]).delay().get(timeout=WAIT) == [[1], [2]]
    assert it.add.starmap([(1, 2), (3, 4)]).delay().get(timeout=WAIT) == [3, 7]
    pairs = zip(range(5), range(5), strict=True)
    assert it.add.chunks(pairs, 2)().get(timeout=WAIT) == [[0, 2], [4, 6], [8]]
    assert (it.add.starmap([(1, 2), (3, 4)]) | it.total.s()).delay().get(timeout=WAIT) == 10
    parts = it.add.chunks([(1, 2), (3, 4), (5, 6)], 2).group()
    assert chord(parts, it.echo.s()).delay().get(timeout=WAIT) == [[[3, 7], [11]]]


@pytest.mark.row("CV14", "CV16")
@pytest.mark.parametrize(
    "kind, gives", [("call", [1, 2]), ("chain", 12), ("group", [2, 3]), ("chord", 5), ("chain of group", [3, 4])]
)
def test_tasks_that_are_replaced(it: ModuleType, kind: str, gives: Any) -> None:
    alone = it.become.s(kind, 1, 2).delay()
    linked = (it.become.s(kind, 1, 2) | it.echo.s("after")).delay()
    part = chord([it.become.s(kind, 1, 2), it.add.s(3)], it.echo.s()).delay()
    assert alone.get(timeout=WAIT) == gives
    assert linked.get(timeout=WAIT) == [gives, "after"]
    assert part.get(timeout=WAIT) == [[gives, 3]]


@pytest.mark.row("HA10")
def test_what_a_class_does_to_replacements(it: ModuleType) -> None:
    assert it.become_marked.s(5).delay().get(timeout=WAIT) == ["marked", 5]


@pytest.mark.row("CV15")
def test_parts_that_are_added(it: ModuleType) -> None:
    result = chord([it.join_in.s(1), it.add.s(10, 0)], it.total.s()).delay()
    assert result.get(timeout=WAIT) == 13


def test_a_chord_that_a_task_sends(it: ModuleType) -> None:
    sent = it.spread.s(4).delay()
    body = it.app.AsyncResult(sent.get(timeout=WAIT))
    assert body.get(timeout=WAIT) == 12
    wait_until("its children are known", lambda: bool(sent.children), WAIT)
    with allow_join_result():
        assert sent.children[0].get(timeout=WAIT) == [0, 2, 4, 6]
