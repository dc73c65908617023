"""Signals by themselves: who is called, with what, and for how long."""

from __future__ import annotations

import gc
import importlib
import logging
from typing import Any

import pytest

from turbo import signals
from turbo.app.shared import Proxy
from turbo.signals import Signal


@pytest.fixture
def signal() -> Signal:
    return Signal({"x"}, name="test")


class Recorder:
    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def hear(self, **named: Any) -> str:
        self.calls.append(named)
        return "heard"


@pytest.mark.row("SG19")
class TestConnecting:
    def test_every_form(self, signal: Signal) -> None:
        heard = []

        @signal.connect
        def bare(**named: Any) -> None:
            heard.append(("bare", named["sender"], named["x"]))

        @signal.connect(sender="only")
        def filtered(**named: Any) -> None:
            heard.append(("filtered", named["sender"], named["x"]))

        def called(sender: Any = None, **named: Any) -> int:
            heard.append(("called", sender, named["x"]))
            return 3

        assert signal.connect(called, weak=False) is called
        signal.send("other", x=1)
        assert heard == [("bare", "other", 1), ("called", "other", 1)]
        heard.clear()
        responses = signal.send(sender="only", x=2)
        assert heard == [("bare", "only", 2), ("filtered", "only", 2), ("called", "only", 2)]
        assert responses == [(bare, None), (filtered, None), (called, 3)]

    def test_the_signal_is_an_argument(self, signal: Signal) -> None:
        recorder = Recorder()
        signal.connect(recorder.hear)
        signal.send(None)
        assert recorder.calls == [{"signal": signal, "sender": None}]

    def test_weak_by_default(self, signal: Signal) -> None:
        recorder = Recorder()
        signal.connect(recorder.hear)
        signal.connect(lambda **_: None)
        gc.collect()
        assert len(signal.receivers) == 1
        assert signal.has_listeners("anybody")
        del recorder
        gc.collect()
        assert signal.receivers == []
        assert not signal.has_listeners()

    def test_strong_on_demand(self, signal: Signal) -> None:
        heard = []
        signal.connect(lambda **_: heard.append(1), weak=False)
        gc.collect()
        signal.send(None)
        assert heard == [1]

    def test_a_receiver_is_connected_once_for_a_sender(self, signal: Signal) -> None:
        recorder, other = Recorder(), Recorder()
        signal.connect(recorder.hear)
        signal.connect(recorder.hear)
        signal.connect(recorder.hear, sender="a")
        signal.connect(other.hear)
        signal.send("a")
        assert (len(recorder.calls), len(other.calls)) == (2, 1)

    def test_and_once_for_a_dispatch_uid(self, signal: Signal) -> None:
        first, second = Recorder(), Recorder()
        signal.connect(first.hear, dispatch_uid="the one")
        signal.connect(second.hear, dispatch_uid="the one")
        signal.send(None)
        assert (len(first.calls), len(second.calls)) == (1, 0)
        assert signal.disconnect(dispatch_uid="the one")
        assert signal.receivers == []

    def test_disconnect(self, signal: Signal) -> None:
        recorder = Recorder()
        signal.connect(recorder.hear, sender="a")
        assert not signal.disconnect(recorder.hear)
        assert signal.disconnect(recorder.hear, sender="a")
        assert not signal.disconnect(recorder.hear, sender="a")
        assert signal.send("a") == []

    def test_a_sender_that_exists_only_later(self, signal: Signal) -> None:
        found: list[object] = []
        task = object()
        recorder = Recorder()
        signal.connect(recorder.hear, sender=Proxy(lambda: found[0]))
        found.append(task)
        signal.send(object())
        assert recorder.calls == []
        signal.send(task)
        assert len(recorder.calls) == 1

    def test_what_cannot_be_a_receiver(self, signal: Signal) -> None:
        with pytest.raises(ValueError, match="keyword arguments"):
            signal.connect(lambda sender: None)
        with pytest.raises(TypeError, match="callable"):
            signal.connect()(3)

    def test_the_list_stays_the_same(self, signal: Signal) -> None:
        receivers = signal.receivers
        recorder = Recorder()
        signal.connect(recorder.hear)
        assert receivers
        signal.disconnect(recorder.hear)
        assert receivers is signal.receivers
        assert not receivers


@pytest.mark.row("SG19")
def test_errors_are_logged_and_returned(signal: Signal, caplog: pytest.LogCaptureFixture) -> None:
    failure = ValueError("no")

    def bad(**_: Any) -> None:
        raise failure

    recorder = Recorder()
    signal.connect(bad)
    signal.connect(recorder.hear)
    assert signal.send("s", x=1) == [(bad, failure), (recorder.hear, "heard")]
    assert [(record.levelno, record.exc_info is not None) for record in caplog.records] == [(logging.ERROR, True)]


@pytest.mark.row("SG19")
def test_a_receiver_is_tried_until_it_works(signal: Signal, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(signals.time, "sleep", pauses.append)

    @signal.connect(retry=True)
    def slow(**_: Any) -> str:
        if len(pauses) < 17:
            raise ConnectionError
        return "at last"

    gc.collect()
    assert [response for _, response in signal.send(None)] == ["at last"]
    assert pauses[:3] == [2, 4, 6]
    assert pauses[-2:] == [30, 30]
    assert signal.disconnect(slow)


@pytest.mark.row("SG11", "SG18")
def test_celerys_names_and_arguments() -> None:
    celerys = importlib.import_module("celery.signals")
    for name in celerys.__all__:
        ours, theirs = getattr(signals, name), getattr(celerys, name)
        assert ours.name == theirs.name
        assert theirs.providing_args <= ours.providing_args
    assert not [name for name in signals.__all__ if getattr(signals, name, None) is None]
