"""Calls as values: what they hold, how they merge, and what is sent of them."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest

from tests.unit.app.recording import Recorder, make_app
from turbo.app.base import Turbo
from turbo.app.canvas.signature import Signature
from turbo.app.task import Task
from turbo.canvas import maybe_signature, signature, subtask
from turbo.exceptions import InvalidTaskError, NotRegistered
from turbo.protocol import tagged_json


@pytest.fixture
def add(app: Turbo) -> Task:
    return app.task(name="proj.add", ignore_result=True)(lambda x, y=0, z=0: x + y + z)


def body(sent: Recorder) -> Any:
    return json.loads(sent.last.body)


@pytest.mark.row("CV1")
def test_its_form_is_that_of_messages(add: Task) -> None:
    assert dict(add.s(1, y=2)) == {
        "task": "proj.add", "args": (1,), "kwargs": {"y": 2}, "options": {}, "subtask_type": None, "immutable": False,
    }  # fmt: skip
    assert add.si(1).immutable and not add.s(1).immutable
    made = add.signature((1,), {"y": 2}, countdown=3)
    assert (made.name, made.args, made.kwargs, made.options) == ("proj.add", (1,), {"y": 2}, {"countdown": 3})
    assert add.subtask((1,)) == add.s(1)
    assert repr(add.s(1, y="b")) == "proj.add(1, y='b')"
    assert json.loads(tagged_json.dumps([add.s(1)])) == [json.loads(json.dumps(add.s(1)))]


def test_calling_one(app: Turbo, add: Task, sent: Recorder) -> None:
    result = add.s(2, z=1).set(queue="q", priority=3).delay(1, z=4)
    assert body(sent)[:2] == [[1, 2], {"z": 4}]
    assert (sent.last.routing_key, sent.last.properties.priority, sent.last.headers["id"]) == ("q", 3, result.id)
    assert sent.last.headers["ignore_result"] is True, "the task's own options hold"
    add.si(2).apply_async((1,), priority=5, queue=None)
    assert (body(sent)[0], sent.last.properties.priority) == ([2], 5)
    assert add.s(2)(1) == 3
    assert add.s(2).apply((1,)).get() == 3


def test_a_name_alone_is_sent(app: Turbo, sent: Recorder) -> None:
    elsewhere = app.signature("elsewhere", (1,), queue="q")
    elsewhere.apply_async()
    assert (sent.last.headers["task"], sent.last.routing_key) == ("elsewhere", "q")
    with pytest.raises(NotRegistered):
        elsewhere()
    assert subtask("elsewhere", app=app).app is app


@pytest.mark.row("CV1")
def test_copies_are_apart(add: Task) -> None:
    first = add.s(1, y=1).set(link=[add.s()])
    second = first.clone((0,), {"y": 2}, countdown=1)
    assert (second.args, second.kwargs["y"], second.options["countdown"]) == ((0, 1), 2, 1)
    second.options["link"].append("more")
    second.kwargs["z"] = 3
    assert (len(first.options["link"]), first.kwargs) == (1, {"y": 1})
    assert signature(first) == first and signature(first) is not first
    assert first.replace(args=(9,), options={}) == add.s(9, y=1)
    assert pickle.loads(pickle.dumps(first)) == first
    assert copy.deepcopy(first) == first


def test_of_what_travelled(app: Turbo, add: Task) -> None:
    there = json.loads(tagged_json.dumps(add.s(1)))
    back = maybe_signature(there, app)
    assert isinstance(back, Signature) and back.type is add and back() == 1
    assert maybe_signature(None) is None
    assert maybe_signature(back) is back and maybe_signature(back, clone=True) is not back
    with pytest.raises(InvalidTaskError, match="unheard"):
        signature({**there, "subtask_type": "unheard"})
    with pytest.raises(TypeError):
        add.s(1) | {"task": "proj.add"}


def test_freezing_settles_the_id(app: Turbo, add: Task, sent: Recorder) -> None:
    frozen = add.s(1)
    result = frozen.freeze(root_id="r", parent_id="p")
    assert frozen.freeze("other").id == result.id == frozen.id
    frozen.delay()
    assert sent.last.headers["id"] == result.id
    assert (sent.last.headers["root_id"], sent.last.headers["parent_id"]) == ("r", "p")
    assert (frozen.root_id, frozen.parent_id) == ("r", "p")
    fixed = add.s(1).set(group_id="g", stamped_headers=["s"], s=1)
    fixed.apply_async(group_id="other", s=2)
    assert (sent.last.headers["group"], sent.last.headers["stamps"]) == ("g", {"s": 1})


@pytest.mark.row("CA16", "CA17")
def test_links(add: Task, sent: Recorder) -> None:
    main = add.s(1)
    assert main.link(add.s(5)) == add.s(5)
    main.link(add.s(5))
    assert main.on_error(add.si(6)) is main
    nested = add.s(7)
    nested.link(add.s(8))
    main.link(nested)
    main.delay()
    follows = body(sent)[2]
    assert [each["args"] for each in follows["callbacks"]] == [[5], [7]]
    assert follows["callbacks"][1]["options"]["link"][0]["args"] == [8]
    assert (follows["errbacks"][0]["args"], follows["errbacks"][0]["immutable"]) == ([6], True)
    assert [each.args for each in main.flatten_links()] == [(1,), (5,), (7,), (8,)]
    single = add.s(1).set(link=add.s(2))
    single.link(add.s(3))
    assert [each.args for each in single.options["link"]] == [(2,), (3,)]


def test_pickled_links_are_plain_mappings(sent: Recorder) -> None:
    app = make_app(task_serializer="pickle", accept_content=["pickle"])
    add = app.task(name="proj.add")(lambda x: x)
    add.apply_async((1,), link=add.s())
    (callback,) = pickle.loads(sent.last.body)[2]["callbacks"]
    assert type(callback) is dict, "a worker without turbo reads it"
