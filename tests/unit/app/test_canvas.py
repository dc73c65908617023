"""Chains, groups, chords and maps: what they are made into, what travels of them, what becomes of their results."""

from __future__ import annotations

import asyncio
import json
import pickle
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from tests.unit.app.recording import Recorder, make_app
from turbo import chain, chord, chunks, group, signature, xmap, xstarmap
from turbo.app.base import Turbo
from turbo.app.canvas.signature import Signature, maybe_signature
from turbo.app.task import Task
from turbo.exceptions import Ignore, ImproperlyConfigured, InvalidTaskError
from turbo.result import AsyncResult, GroupResult


@pytest.fixture
def add(app: Turbo) -> Task:
    return app.task(name="proj.add")(lambda x, y=0: x + y)


@pytest.fixture
def total(app: Turbo) -> Task:
    return app.task(name="proj.total")(lambda numbers: sum(numbers))


def bodies(sent: Recorder) -> list[Any]:
    return [json.loads(each.body) for each in sent.sent]


def shape(sig: Any) -> Any:
    """A canvas as nested tuples of its numbers."""
    if isinstance(sig, chain):
        return ("chain", *(shape(step) for step in sig.tasks))
    if isinstance(sig, chord):
        parts = sig.tasks.tasks if isinstance(sig.tasks, group) else sig.tasks
        return ("chord", [shape(part) for part in parts], shape(sig.body))
    if isinstance(sig, group):
        return ("group", *(shape(task) for task in sig.tasks))
    return sig.args[0] if sig.args else sig.task


@pytest.mark.row("CV2", "CV6")
def test_what_follows_what(add: Task) -> None:
    one, two, three, four = (add.s(number) for number in (1, 2, 3, 4))
    pair, other = group(one, two), group(three, four)
    assert shape(one | two | three) == shape(chain(one, two, three)) == ("chain", 1, 2, 3)
    assert shape(one | (two | three)) == shape((one | two) | (three | four))[:4] == ("chain", 1, 2, 3)
    assert shape(one | pair) == ("chain", 1, ("group", 1, 2))
    assert shape(pair | three) == shape(chain(pair, three)) == ("chord", [1, 2], 3)
    assert shape(one | pair | three) == shape(chain(one, pair, three)) == ("chain", 1, ("chord", [1, 2], 3))
    assert shape(pair | three | four) == ("chord", [1, 2], ("chain", 3, 4))
    assert shape(one | pair | three | four) == ("chain", 1, ("chord", [1, 2], ("chain", 3, 4)))
    assert shape(pair | other) == ("chord", [1, 2], ("group", 3, 4))
    assert shape(one | pair | three | other) == ("chain", 1, ("chord", [1, 2], ("chain", 3, ("group", 3, 4))))
    assert shape(chord(pair, three) | other) == ("chain", ("chord", [1, 2], 3), ("group", 3, 4))
    assert shape(chord(pair, three) | chord(other, one)) == ("chord", [1, 2], ("chain", 3, ("chord", [3, 4], 1)))
    assert shape(chord(pair, three) | (one | two)) == ("chain", ("chord", [1, 2], 3), 1, 2)


def test_a_chain_with_options_grows(add: Task) -> None:
    told = {"link": [add.s(7)], "link_error": [add.s(8)], "queue": "q"}
    plain = chain(add.s(1), add.s(2)).set(**told) | add.s(3) | add.s(4)
    assert plain.options == {} and [len(step.options.get("link_error", [])) for step in plain.tasks] == [1, 1, 0, 0]
    assert [len(step.options.get("link", [])) for step in plain.tasks] == [0, 1, 0, 0]
    taken_in = (add.s(1) | group(add.s(2), add.s(3)) | add.s(4)).set(**told) | (add.s(5) | add.s(6))
    assert shape(taken_in) == ("chain", 1, ("chord", [2, 3], ("chain", 4, 5, 6)))
    assert taken_in.options == told and taken_in.tasks[0].options == {}
    ended = chain(add.s(1), group(add.s(2), add.s(3)), app=add.app).set(**told) | add.s(4)
    assert (shape(ended), ended.options) == (("chain", 1, ("chord", [2, 3], 4)), told)


def test_groups_of_one_and_of_none(add: Task) -> None:
    one, two = add.s(1), add.s(2)
    assert shape(one | group(two)) == shape(chain(one, group([two]))) == ("chain", 1, 2)
    assert shape(chain(one, group(), two)) == ("chain", 1, 2)
    assert shape(chain(one) | group()) == ("chain", 1)
    assert shape(chord([one], two) | group(one)) == ("chord", [1], ("chain", 2, 1))
    assert shape(chord([one], two) | group(one | two)) == ("chord", [1], ("chain", 2, 1, 2))
    assert shape(chain([group(one, two)])) == shape(chain() | group(one, two)) == ("group", 1, 2)
    assert shape(chain(group(one, two))) == ("chain", ("group", 1, 2))
    assert shape(group(one, two) | group()) == ("group", 1, 2)
    assert (len(group()), chain()()) == (0, None)
    assert "empty" in repr(chain()) and "empty" in repr(group())
    with pytest.raises(TypeError):
        chain(one, 5)


def test_joining_copies(add: Task) -> None:
    one, two = add.s(1), add.s(2)
    first = one | two
    second = first | add.s(3)
    assert (shape(first), shape(second)) == (("chain", 1, 2), ("chain", 1, 2, 3))
    first.tasks[0].args = (9,)
    assert shape(second) == ("chain", 1, 2, 3)
    both = first.clone()
    both.tasks[0].args = (8,)
    assert first.tasks[0].args == (9,)


@pytest.mark.row("CV2", "CV3")
def test_a_chain_travels_with_its_first_step(add: Task, sent: Recorder) -> None:
    result = chain(add.s(1, 2), add.si(3, 3), add.s(4)).apply_async()
    (body,) = bodies(sent)
    assert body[0] == [1, 2]
    assert [(step["args"], step["immutable"]) for step in body[2]["chain"]] == [([4], False), ([3, 3], True)]
    ids = [step["options"]["task_id"] for step in body[2]["chain"]]
    assert [result.id, result.parent.id] == ids
    assert result.parent.parent.id == sent.last.headers["id"]
    again = chain(add.s(1), add.s(2))
    assert again.delay(5).id != again.delay(5).id
    assert bodies(sent)[-1][0] == [5, 1]


def test_a_chains_own_options(app: Turbo, add: Task, sent: Recorder) -> None:
    steps = chain(add.s(1), add.s(2)).set(queue="q", task_id="last", link=add.s(7), link_error=[add.s(8)])
    assert steps.apply_async().id == "last"
    ((_, _, follows),) = bodies(sent)
    (rest,) = follows["chain"]
    assert (sent.last.routing_key, rest["options"]["task_id"]) == ("q", "last")
    assert [each["args"] for each in rest["options"]["link"]] == [[7]]
    assert [each["args"] for each in rest["options"]["link_error"]] == [[8]] == [e["args"] for e in follows["errbacks"]]
    assert follows["callbacks"] is None
    before = chain(add.s(1)).apply_async(link=add.s(7), chain=[add.s(9)])
    assert (sent.last.headers["id"], bodies(sent)[-1][2]["chain"][0]["args"]) == (before.id, [9])
    assert steps.app is app


@pytest.mark.row("CV4")
def test_a_group_is_its_members_with_its_id(add: Task, sent: Recorder) -> None:
    result = group(add.s(1), group(add.s(2), add.s(3)), add.s(4)).apply_async(task_id="gid")
    assert isinstance(result, GroupResult) and result.id == "gid"
    assert [each.headers["group"] for each in sent.sent] == ["gid"] * 4
    assert [each.headers["id"] for each in sent.sent] == [member.id for member in result]
    assert [body[0] for body in bodies(sent)] == [[1], [2], [3], [4]]
    assert group(add.s(number) for number in range(3))(5).id
    assert [body[0] for body in bodies(sent)[4:]] == [[5, 0], [5, 1], [5, 2]]
    assert [each.headers["group_index"] for each in sent.sent[4:]] == [0, 1, 2]


def test_members_that_keep_no_result_are_not_waited_for(app: Turbo, sent: Recorder) -> None:
    silent = app.task(name="proj.silent", ignore_result=True)(lambda: None)
    result = group(silent.s(), silent.s()).delay()
    assert [member.ignored for member in result] == [True, True]
    assert result.get() == result.join() == [None, None]


@pytest.mark.row("CV21")
def test_what_is_linked_to_a_group(add: Task, sent: Recorder) -> None:
    both = group(add.s(1), add.s(2))
    both.link(add.s(7))
    assert [each["args"] for each in both.link_error(add.s(8))] == [(8,), (8,)]
    both.delay()
    first, second = (body[2] for body in bodies(sent))
    assert [(each["args"], each["immutable"]) for each in first["callbacks"]] == [([7], True)]
    assert second["callbacks"] is None
    assert [each["args"] for each in first["errbacks"]] == [[8]] == [each["args"] for each in second["errbacks"]]
    with pytest.raises(TypeError, match="link"):
        both.apply_async(link=add.s())
    with pytest.raises(TypeError, match="individual tasks"):
        both.apply_async(link_error=add.s())
    whole = add.s(1) | add.s(2)
    whole.link(add.s(7))
    whole.delay()
    assert bodies(sent)[-1][2]["callbacks"] is None, "it is the last step's"


@pytest.mark.row("CV9")
@pytest.mark.parametrize("backend", ["rpc://", None])
def test_a_chord_needs_a_store_that_counts(backend: str | None, sent: Recorder) -> None:
    app = make_app(backend=backend)
    add = app.task(name="proj.add")(lambda x, y=0: x + y)
    with pytest.raises(NotImplementedError, match="chord"):
        chord([add.s(1), add.s(2)], add.s()).apply_async()
    with pytest.raises(NotImplementedError, match="chord"):
        (add.s(1) | group(add.s(1), add.s(2)) | add.s(3)).apply_async()
    assert sent.sent == [], "refused before anything is sent"


def test_an_empty_group_and_countdowns(add: Task, sent: Recorder) -> None:
    nothing = group([]).apply_async()
    assert (list(nothing), nothing.ready(), sent.sent) == ([], True, [])
    started = group(add.s(1), add.s(2), add.s(3)).skew(1, 2)
    assert [task.options["countdown"] for task in started.tasks] == [1, 2, 2]
    started.set_immutable(True)
    assert all(task.immutable for task in started.tasks)


def test_maps_are_calls_of_builtin_tasks(app: Turbo, add: Task, sent: Recorder) -> None:
    assert dict(xmap(add.s(), [1, 2])) == {
        "task": "celery.map", "args": (), "kwargs": {"task": add.s(), "it": [1, 2]}, "options": {},
        "subtask_type": None, "immutable": True,
    }  # fmt: skip
    xmap(add.s(), (number for number in (1, 2)), app=app).apply_async(queue="q")
    xstarmap(add.s(), [(1, 2)], app=app).set(priority=3).delay()
    assert [(each.headers["task"], body[1]["it"]) for each, body in zip(sent.sent, bodies(sent), strict=True)] == [
        ("celery.map", [1, 2]), ("celery.starmap", [[1, 2]]),
    ]  # fmt: skip
    assert (sent.sent[0].routing_key, sent.sent[1].properties.priority) == ("q", 3)
    result = chunks(add.s(), zip(range(5), range(5), strict=True), 2, app=app)()
    assert len(result) == 3
    assert [body[1]["it"] for body in bodies(sent)[2:]] == [[[0, 0], [1, 1]], [[2, 2], [3, 3]], [[4, 4]]]
    assert repr(xmap(add.s(), [1])) == "[proj.add(x) for x in [1]]"
    assert repr(xstarmap(add.s(), [(1, 2)])) == "[proj.add(*x) for x in [(1, 2)]]"


def test_maps_go_where_their_task_goes(sent: Recorder) -> None:
    app = make_app(task_routes={"proj.add": "adding"})
    add = app.task(name="proj.add")(lambda x, y=0: x + y)
    xmap(add.s(), [1], app=app).delay()
    assert sent.last.routing_key == "adding"


CANVASES: dict[str, Callable[[Task], Any]] = {
    "chain": lambda add: chain(add.s(1), add.s(2)),
    "group": lambda add: group(add.s(1), group(add.s(2), add.s(3))),
    "chord": lambda add: chord([add.s(1), add.s(2)], add.s(3)),
    "whole": lambda add: add.s(1) | group(add.s(2), chain(add.s(3), add.s(4))) | add.s(5) | add.s(6),
    "map": lambda add: group(xmap(add.s(), [1, 2]), xstarmap(add.s(), [(1, 2)])),
}


@pytest.mark.parametrize("name", CANVASES)
def test_there_and_back(app: Turbo, add: Task, name: str) -> None:
    made = CANVASES[name](add)
    there = json.loads(json.dumps(made))
    back = maybe_signature(there, app)
    assert type(back) is type(made) and json.loads(json.dumps(back)) == there
    assert back.app is app
    assert json.loads(json.dumps(made.clone())) == there
    assert pickle.loads(pickle.dumps(made)) == made
    assert json.loads(json.dumps(signature(made))) == there
    assert type(made).from_dict(there) == back


def test_pickled_parts_are_plain_mappings(sent: Recorder) -> None:
    app = make_app(task_serializer="pickle", accept_content=["pickle"])
    add = app.task(name="proj.add")(lambda x: x)
    (add.s(1) | add.s(2) | group(add.s(3), add.s(4).set(link=chain(add.s(5), add.s(6))))).apply_async(
        link_error=group(add.s(7), add.s(8))
    )
    xmap(add.s(), [1], app=app).delay()

    def check(value: Any) -> None:
        assert not isinstance(value, Signature), "a worker without turbo reads it"
        for each in value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ():
            check(each)

    for each in sent.sent:
        check(pickle.loads(each.body))


def test_keys_are_attributes(add: Task) -> None:
    sig = add.s(1)
    sig.task, sig.subtask_type, sig.root_id, sig.parent_id, sig.id = "other", "odd", "r", "p", "i"
    assert (sig["task"], sig.name, sig["subtask_type"]) == ("other", "other", "odd")
    assert sig.options == {"root_id": "r", "parent_id": "p", "task_id": "i"}


@pytest.mark.row("CV1")
def test_freezing_settles_all_ids(app: Turbo, add: Task, sent: Recorder) -> None:
    steps = chain(add.s(1), group(add.s(2), add.s(3)))
    result = steps.freeze()
    assert isinstance(result, GroupResult)
    assert [task.id for task in steps.tasks[1].tasks] == [member.id for member in result]
    assert result.parent.id == steps.tasks[0].id
    steps.apply_async()
    assert sent.last.headers["id"] == result.parent.id
    both = group(add.s(1), add.s(2))
    assert [member.id for member in both.freeze()] == [member.id for member in both.apply_async()]


def test_a_group_of_one_chain_that_ends_in_a_group(add: Task, sent: Recorder) -> None:
    result = group(add.s(1) | group(add.s(2), add.s(3))).apply_async()
    assert isinstance(result[0], AsyncResult) and len(result) == 2


def test_subclasses(add: Task) -> None:
    @Signature.register_type()
    class pipeline(chain):
        pass

    made = pipeline(add.s(1), add.s(2))
    assert type(made) is pipeline and type(made | add.s(3)) is pipeline
    assert repr(made) == "proj.add(1) | proj.add(2)"


# -- eager -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def eager() -> Turbo:
    app = make_app(task_always_eager=True)
    app.task(name="proj.add")(lambda x, y=0: x + y)
    app.task(name="proj.total")(lambda numbers: sum(numbers))
    return app


@pytest.mark.row("CV2", "CV4", "CV5")
def test_canvases_run_in_the_callers_process(eager: Turbo) -> None:
    add, total = eager.tasks["proj.add"], eager.tasks["proj.total"]
    last = chain(add.s(1, 2), add.s(3), add.s(4)).delay()
    assert (last.get(), last.parent.get(), last.parent.parent.get()) == (10, 6, 3)
    assert group(add.s(1, 2), add.s(3, 4))().get() == [3, 7]
    assert chord([add.s(1, 2), add.s(3, 4)])(total.s()).get() == 10
    whole = add.s(1, 1) | group(add.s(1), add.s(2)) | total.s() | group(add.s(10), add.s(20))
    assert whole.apply_async().get() == [17, 27]
    assert whole.apply().get() == [17, 27]
    assert chain(add.s(1), group(), add.s(5)).apply().get() == 6
    assert list(chain(group()).apply()) == [] and list(group([]).apply()) == []


def test_callbacks_in_the_callers_process(eager: Turbo) -> None:
    told: list[Any] = []
    note = eager.task(name="proj.note")(lambda *args: told.append(args))
    add, total = eager.tasks["proj.add"], eager.tasks["proj.total"]
    chain(add.s(1, 2), add.s(3)).set(link=note.s("chain")).apply_async()
    chord([add.s(1, 2)], total.s()).apply_async(link=note.s("chord"))
    chain(add.s(1, 2), chord([add.s(1)], total.s())).set(link=note.s("inside")).apply_async()
    assert told == [(6, "chain"), (3, "chord"), (4, "inside")]


# -- in place of a running task ----------------------------------------------------------------------------------------


def running(app: Turbo, body: Any, **request: Any) -> Any:
    """Run a bound task as a child of a worker does, with this request."""
    task = app.task(name=f"proj.running-{uuid4()}", bind=True)(body)
    task.push_request(id="me", called_directly=False, root_id="root", **request)
    try:
        return task.run()
    finally:
        task.pop_request()


@pytest.mark.row("CV14", "CA11")
def test_a_task_is_replaced(app: Turbo, add: Task, sent: Recorder) -> None:
    rest = [json.loads(json.dumps(add.s(9).set(task_id="nine"))), json.loads(json.dumps(add.s(8).set(task_id="eight")))]
    told = json.loads(json.dumps(add.s(7)))
    with pytest.raises(Ignore):
        running(
            app, lambda self: self.replace(add.s(1)), callbacks=[told], errbacks=[told], chain=rest, group="g",
            group_index=2, replaced_task_nesting=1,
        )  # fmt: skip
    headers = sent.last.headers
    assert (headers["id"], headers["root_id"], headers["parent_id"]) == ("me", "root", "me")
    assert (headers["group"], headers["group_index"], headers["replaced_task_nesting"]) == ("g", 2, 2)
    ((args, _, follows),) = bodies(sent)
    assert args == [1]
    assert [(step["options"]["task_id"], step["args"]) for step in follows["chain"]] == [("nine", [9]), ("eight", [8])]
    assert [each["args"] for each in follows["callbacks"]] == [[7]] == [each["args"] for each in follows["errbacks"]]


@pytest.mark.row("CV14")
def test_the_chord_is_inherited(app: Turbo, add: Task, sent: Recorder) -> None:
    body = json.loads(json.dumps(add.s(5)))
    with pytest.raises(Ignore):
        running(app, lambda self: self.replace(add.s(1)), group="g", group_index=2, chord=body)
    headers = sent.last.headers
    assert (headers["id"], headers["group"], headers["group_index"]) == ("me", "g", 2)
    assert bodies(sent)[-1][2]["chord"] == body
    with pytest.raises(Ignore):
        running(app, lambda self: self.replace(add.s(1) | add.s(2)), group="g", group_index=2, chord=body)
    follows = bodies(sent)[-1][2]
    assert (sent.last.headers["group"], follows["chord"]) == (None, None), "the chain's last step is part of it"
    (last,) = follows["chain"]
    options = last["options"]
    assert (options["task_id"], options["group_id"], options["group_index"], options["chord"]) == ("me", "g", 2, body)


@pytest.mark.row("CV16")
def test_a_group_takes_the_place_of_one_task() -> None:
    app = make_app(backend="redis://nowhere")
    add = app.task(name="proj.add")(lambda x, y=0: x + y)
    replaced: list[Any] = []

    class Replaced(app.Task):  # type: ignore[name-defined, misc]
        def on_replace(self, sig: Any) -> Any:
            replaced.append(sig)
            return "done"

    task = app.task(name="proj.own", bind=True, base=Replaced)(lambda self, sig: self.replace(sig))
    for sig in (group(add.s(1), add.s(2)), chain(add.s(0), group(add.s(1), add.s(2)))):
        task.push_request(id="me", called_directly=False)
        assert task.run(sig) == "done"
        task.pop_request()
    first, second = replaced
    assert shape(first) == ("chord", [1, 2], "celery.accumulate")
    assert (first.body.kwargs, first.body.id) == ({"index": 0}, "me")
    assert shape(second) == ("chain", 0, ("chord", [1, 2], "celery.accumulate"))


def test_what_cannot_replace_a_task(app: Turbo, add: Task) -> None:
    for sig in (add.s(1).set(chord=add.s(2)), chain()):
        with pytest.raises(ImproperlyConfigured):
            running(app, lambda self, sig=sig: self.replace(sig))


def test_a_replaced_task_in_the_callers_process(eager: Turbo) -> None:
    add = eager.tasks["proj.add"]
    task = eager.task(name="proj.replaced", bind=True)(lambda self: self.replace(add.s(1, 2) | add.s(3)))
    assert task.apply().get() == 6
    assert task.delay().get() == 6


@pytest.mark.row("CV15")
def test_a_part_is_added_to_a_chord(app: Turbo, add: Task, sent: Recorder) -> None:
    with pytest.raises(ValueError, match="chord"):
        running(app, lambda self: self.add_to_chord(add.s(1)))
    extended: list[str] = []

    class Store:
        chords = SimpleNamespace(extend=extended.append)

    body = json.loads(json.dumps(add.s(5)))
    task = app.task(name="proj.adding", bind=True)(lambda self, lazy: self.add_to_chord(add.s(1), lazy))
    task.backend = Store()
    task.push_request(id="me", called_directly=False, group="g", group_index=1, chord=body, root_id="root")
    lazy = task.run(True)
    assert (lazy.options["group_id"], sent.sent, extended) == ("g", [], ["g"])
    assert task.run(False).id == sent.last.headers["id"]
    task.pop_request()
    assert (sent.last.headers["group"], sent.last.headers["group_index"], extended) == ("g", 1, ["g", "g"])
    assert bodies(sent)[-1][2]["chord"] == body


@pytest.mark.row("CV18")
@pytest.mark.parametrize("allowed", [False, True])
def test_error_callbacks_of_a_chords_header(allowed: bool) -> None:
    app = make_app(task_allow_error_cb_on_chord_header=allowed)
    add = app.task(name="proj.add")(lambda x, y=0: x + y)
    outer = chord([add.s(1), chord([add.s(3)], add.s(4), app=app)], add.s(2), app=app)
    inner = outer.tasks[1]
    assert outer.link_error(add.s(9)) == add.s(9)
    told = [
        len(each.options.get("link_error", [])) for each in (outer.tasks[0], outer.body, inner.tasks[0], inner.body)
    ]
    assert told == ([1, 1, 1, 1] if allowed else [0, 1, 0, 1])


def test_malformed_composites_are_refused(app: Turbo) -> None:
    for kind, kwargs in (("chain", {}), ("group", {"tasks": 5}), ("chord", {"body": None}), ("chord", None)):
        with pytest.raises(InvalidTaskError, match=kind):
            signature({"task": f"celery.{kind}", "kwargs": kwargs, "subtask_type": kind}, app=app)


def test_canvases_on_asyncio(add: Task, sent: Recorder) -> None:
    async def view() -> list[Any]:
        return [await (add.s(1) | add.s(2)).adelay(5), await group(add.s(1), add.s(2)).aapply_async(queue="q")]

    last, both = asyncio.run(view())
    assert (bodies(sent)[0][0], bodies(sent)[0][2]["chain"][0]["options"]["task_id"]) == ([5, 1], last.id)
    assert [(each.routing_key, each.headers["id"]) for each in sent.sent[1:]] == [("q", member.id) for member in both]
