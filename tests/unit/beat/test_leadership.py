"""What a beat that leads stores, and what it does when it loses the lead; the election itself needs a broker."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.unit.app.recording import make_app, recording
from turbo.beat import Scheduler, runs
from turbo.beat.election import leader_queue, turn_of
from turbo.beat.leadership import Leadership
from turbo.beat.options import BeatOptions
from turbo.beat.runs import Run
from turbo.beat.stop_request import StopRequest
from turbo.beat.turn import SingleBeat
from turbo.exceptions import OperationalError

NOW = datetime.now(UTC)
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


class Broker:
    """Stands in for a ``LeaderQueue``: what a broker would let it do."""

    queue = "elects"

    def __init__(self, value: bytes = b"", *, leads: bool = True) -> None:
        self.value = value
        self.connected = self.leads = False
        self.stored: list[bytes] = []
        self.gone: OperationalError | None = None
        self._leads = leads

    def connect(self) -> None:
        if self.gone is not None:
            raise self.gone
        self.connected = True

    def wait(self, seconds: float) -> None:
        self.leads = self._leads

    def store(self, value: bytes) -> None:
        if self.gone is not None:
            raise self.gone
        self.stored.append(value)

    def close(self) -> None:
        self.connected = self.leads = False


def turn(broker: Broker, stop: StopRequest | None = None) -> Leadership:
    return Leadership(broker, stop or StopRequest())  # type: ignore[arg-type]


def test_the_runs_of_entries_that_this_beat_does_not_have_are_kept_for_a_month() -> None:
    """During a deployment two versions of the schedule take turns."""
    left = {"own": Run(NOW, 3), "other": Run(NOW - timedelta(days=2), 1), "old": Run(NOW - timedelta(days=40), 1)}
    broker = Broker(runs.encode(left))
    leadership = turn(broker)
    assert leadership.wait(0) == left
    assert leadership.claim({"own": Run(NOW, 4)})
    assert runs.decode(broker.stored[-1]) == {"own": Run(NOW, 4), "other": left["other"]}


def test_a_value_that_cannot_be_understood_is_named(caplog: pytest.LogCaptureFixture) -> None:
    assert turn(Broker(b"\x00")).wait(0) == {}
    assert "cannot be understood" in caplog.text


def test_it_waits_for_its_turn() -> None:
    leadership = turn(Broker(leads=False))
    assert leadership.wait(0) is None
    assert not leadership.leads


def test_a_claim_that_fails_ends_the_lead(caplog: pytest.LogCaptureFixture) -> None:
    broker = Broker()
    leadership = turn(broker)
    leadership.wait(0)
    broker.gone = OperationalError("cut")
    assert not leadership.claim({})
    assert not leadership.leads
    assert "cut; this beat stops sending" in caplog.text


def test_it_waits_no_longer_when_beat_is_to_end() -> None:
    stop = StopRequest()
    stop.ask()
    leadership = turn(Broker(leads=False), stop)
    assert leadership.wait(60) is None
    assert leadership.rest(60)


def test_what_is_not_claimed_is_not_sent() -> None:
    app = make_app(beat_schedule={"tick": {"task": "shop.tick", "schedule": 3600, "last_run_at": LONG_AGO}})
    allowed: list[bool] = [False]
    scheduler = Scheduler(app, claim=lambda _runs: allowed[0])
    with recording() as sent:
        scheduler.tick()
        assert (sent.sent, scheduler.schedule["tick"].last_run_at) == ([], LONG_AGO)
        allowed[0] = True
        scheduler.take_over({})
        scheduler.tick()
        assert len(sent.sent) == 1


@pytest.mark.parametrize(
    ("setting", "main", "name"),
    [
        (None, "shop", "celerybeat.shop.orders"),
        (None, None, "celerybeat.shop.tasks.orders"),
        (None, "__main__", "celerybeat.shop.tasks.orders"),
        ("mine", "shop", "mine"),
        ("", "shop", ""),
    ],
)
def test_the_queue_is_named_after_the_app(setting: str | None, main: str | None, name: str) -> None:
    app = make_app(task_default_queue="orders", beat_leader_queue=setting)
    assert leader_queue(app.conf, main, "shop.tasks:app") == name


def test_an_empty_name_means_no_election() -> None:
    found = turn_of(make_app().conf, BeatOptions(leader_queue=""), StopRequest())
    assert isinstance(found, SingleBeat)
    assert found.wait(0) == {}
