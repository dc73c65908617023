"""Exceptions as documents: under Celery's names there, and back without running anybody's code."""

from __future__ import annotations

import builtins
import importlib
import sys
import types
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turbo import exceptions
from turbo.protocol.faults import from_wire, to_wire
from turbo.protocol.tagged_json import dumps, loads

CELERYS = ("celery", "billiard", "kombu")


class Outer:
    class InnerError(Exception):
        pass


class Awkward(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__("only one argument")


class Shapeshifter(Exception):
    def __new__(cls, *args: object) -> Any:
        return 5


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError


@pytest.fixture
def without_celery(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] in CELERYS]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.row("ST13")
@pytest.mark.parametrize(
    ("error", "document"),
    [
        (ValueError("a", 1), ("ValueError", ["a", 1], "builtins")),
        (KeyError(), ("KeyError", [], "builtins")),
        (Outer.InnerError(None), ("Outer.InnerError", [None], __name__)),
        (exceptions.NotRegistered("t"), ("NotRegistered", ["t"], "celery.exceptions")),
        (exceptions.TaskRevokedError("expired"), ("TaskRevokedError", ["expired"], "celery.exceptions")),
        (exceptions.TimeLimitExceeded(5), ("TimeLimitExceeded", [5], "billiard.exceptions")),
        (exceptions.SoftTimeLimitExceeded(), ("SoftTimeLimitExceeded", [], "billiard.exceptions")),
        (exceptions.WorkerLostError("gone"), ("WorkerLostError", ["gone"], "billiard.exceptions")),
        (exceptions.MemoryLimitExceeded("big"), ("WorkerLostError", ["big"], "billiard.exceptions")),
        (exceptions.DecodeError("x"), ("DecodeError", ["x"], "kombu.exceptions")),
        (exceptions.TurboError("x"), ("TurboError", ["x"], "turbo.exceptions")),
    ],
    ids=repr,
)
def test_documents(error: BaseException, document: tuple[Any, ...]) -> None:
    found = to_wire(error)
    assert (found["exc_type"], found["exc_message"], found["exc_module"]) == document
    assert list(found) == ["exc_type", "exc_message", "exc_module"]


@pytest.mark.row("ST12", "ST13")
def test_arguments_that_cannot_be_carried_become_text() -> None:
    error = ValueError(
        {1, 2}, object, Unprintable(), "a\ud800", b"\xff", 2**70, float("nan"), ["ok"], Exception("x\n" * 9000)
    )
    found = to_wire(error)
    assert found["exc_message"][0] == "{1, 2}"
    assert found["exc_message"][2] == "<Unrepresentable Unprintable: RuntimeError>"
    assert found["exc_message"][7] == ["ok"]
    assert len(found["exc_message"][8]) < 20_000
    dumps(found)


@pytest.mark.row("ST13")
def test_every_class_of_ours_comes_back(without_celery: None) -> None:
    for name in dir(exceptions):
        cls = getattr(exceptions, name)
        if (
            isinstance(cls, type)
            and issubclass(cls, exceptions.TurboError | Exception)
            and cls.__module__ == exceptions.__name__
        ):
            back = from_wire(loads(dumps(to_wire(cls("a")))))
            assert type(back) is (exceptions.WorkerLostError if name == "MemoryLimitExceeded" else cls)


@pytest.mark.row("ST13")
def test_celerys_classes_are_used_where_celery_is_loaded() -> None:
    celery = importlib.import_module("celery.exceptions")
    billiard = importlib.import_module("billiard.exceptions")
    assert type(from_wire(to_wire(exceptions.NotRegistered("t")))) is celery.NotRegistered
    assert type(from_wire(to_wire(exceptions.TimeLimitExceeded(5)))) is billiard.TimeLimitExceeded


@pytest.mark.row("ST13")
def test_celery_reads_our_documents() -> None:
    celery = importlib.import_module("celery")
    app = celery.Celery(backend="cache+memory://", set_as_current=False)
    back = app.backend.exception_to_python(to_wire(exceptions.WorkerLostError("gone")))
    assert type(back).__module__ == "billiard.exceptions"
    assert back.args == ("gone",)


def test_loaded_classes_come_back() -> None:
    for error in (
        ValueError("a", [1]),
        Outer.InnerError(5),
        UnicodeDecodeError("utf-8", b"", 0, 1, "r"),
        SystemExit(3),
    ):
        back = from_wire(to_wire(error))
        assert type(back) is type(error)
        assert repr(back.args) == repr(error.args) or type(error) is UnicodeDecodeError


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("builtins", "eval"),
        ("builtins", "print"),
        ("builtins", "int"),
        ("subprocess", "Popen"),
        ("os", "path.join"),
        ("nowhere.at.all", "AnyError"),
        ("builtins", "Exception.__init__"),
        ("builtins", "ValueError.__class__"),
        ("sys", "modules"),
        ("builtins", "a.b.c"),
        ("", "X"),
        (__name__, "Outer"),
        (__name__, "Outer.missing"),
        ("os", "environ"),
        ("os", "."),
        ("os", ".."),
    ],
)
def test_what_is_no_exception_class_is_never_called(module: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setattr(os, "system", lambda *_: pytest.fail("called"))
    monkeypatch.setattr(builtins, "eval", lambda *_: pytest.fail("called"))
    back = from_wire({"exc_module": module, "exc_type": name, "exc_message": ["echo"]})
    assert isinstance(back, Exception)
    assert back.args == ("echo",)
    assert type(back).__bases__ == (Exception,)
    assert module not in sys.modules or not hasattr(sys.modules[module], "RemoteError")


def test_no_hook_of_a_module_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hooked(types.ModuleType):
        def __getattr__(self, name: str) -> Any:
            pytest.fail("a module's hook ran")

    monkeypatch.setitem(sys.modules, "hooked", Hooked("hooked"))
    assert type(from_wire({"exc_module": "hooked", "exc_type": "Anything"})).__name__ == "Anything"


def test_constructors_that_do_not_fit() -> None:
    for cls in (Awkward, Shapeshifter):
        back = from_wire({"exc_module": __name__, "exc_type": cls.__name__, "exc_message": ["a"]})
        assert type(back) is Exception
        assert cls.__name__ in str(back)


@pytest.mark.parametrize(
    "document", [{}, {"exc_type": None}, {"exc_type": 5}, {"exc_type": ""}, {"exc_type": []}], ids=repr
)
def test_documents_without_a_type(document: dict[str, Any]) -> None:
    assert isinstance(from_wire(document), exceptions.TaskError)


def test_a_message_may_be_one_value() -> None:
    assert from_wire({"exc_type": "ValueError", "exc_module": "builtins", "exc_message": "text"}).args == ("text",)
    assert from_wire({"exc_type": "ValueError", "exc_module": "builtins"}).args == ("",)
    assert type(from_wire({"exc_type": "Own", "exc_module": None, "exc_message": []})).__name__ == "Own"


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
NAMES = st.sampled_from(
    ["os", "builtins", "sys", "celery.exceptions", "turbo.exceptions", "json", "ValueError", "OSError"]
)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(("exc_type", "exc_module", "exc_message"), ANY | NAMES)))
def test_no_document_raises(document: dict[str, Any]) -> None:
    back = from_wire(document)
    assert isinstance(back, BaseException)
    repr(back)
