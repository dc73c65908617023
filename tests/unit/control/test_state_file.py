"""The state file: written, read, damaged, and left by Celery."""

from __future__ import annotations

import asyncio
import os
import shelve
import threading
import time
from pathlib import Path

import pytest
from celery.app.base import Celery
from celery.worker import state as celerys_state

from turbo.control import state_file
from turbo.control.state_file import StateFile
from turbo.exceptions import ImproperlyConfigured
from turbo.policy.revoked import Revoked
from turbo.protocol.clock import LogicalClock
from turbo.protocol.worker_state import load


def _start(path: Path) -> tuple[StateFile, Revoked, LogicalClock]:
    revoked, clock = Revoked(), LogicalClock()
    file = StateFile(str(path), revoked, clock)
    file.take_up()
    return file, revoked, clock


@pytest.mark.row("TM13", "EV17")
def test_ids_and_clock_outlive_the_worker(tmp_path: Path) -> None:
    file, revoked, clock = _start(tmp_path / "state")
    revoked.add(["b", "a"], 1e9)
    clock.adjust(500)
    asyncio.run(file.stop(0.0))
    _file, revoked, clock = _start(tmp_path / "state")
    assert revoked.ids() == ["b", "a"]
    assert clock.value > 500
    assert not (tmp_path / "state").exists(), "the name itself is Celery's"


def test_changes_are_written_while_the_worker_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_file, "_INTERVAL", 0.001)
    file, revoked, _clock = _start(tmp_path / "state")

    async def run() -> None:
        await file.start()
        revoked.add(["late"], 1e9)
        async with asyncio.timeout(20):
            while "late" not in load((tmp_path / "state.turbo").read_bytes()).revoked:
                await asyncio.sleep(0.001)
        await file.stop(0.0)

    asyncio.run(run())


@pytest.mark.parametrize("damage", [b"", b"{", b'{"version": 1}', b"\x00" * 100])
def test_a_damaged_file_is_named_and_set_aside(tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "state.turbo").write_bytes(damage)
    _file, revoked, _clock = _start(tmp_path / "state")
    assert revoked.ids() == []
    assert "state.turbo is damaged" in caplog.text
    assert (tmp_path / "state.turbo.damaged").read_bytes() == damage
    assert load((tmp_path / "state.turbo").read_bytes()).revoked == ()


def test_a_damaged_file_that_cannot_be_renamed_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "state.turbo").write_bytes(b"{")
    (tmp_path / "state.turbo.damaged").mkdir()
    with pytest.raises(ImproperlyConfigured, match=r"worker_state_db: cannot rename .*state\.turbo"):
        _start(tmp_path / "state")


def test_a_place_that_cannot_be_written_prevents_the_start(tmp_path: Path) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"worker_state_db: cannot write .*nosuch"):
        _start(tmp_path / "nosuch" / "state")
    (tmp_path / "folder.turbo").mkdir()
    with pytest.raises(ImproperlyConfigured, match=r"worker_state_db: cannot read .*folder"):
        _start(tmp_path / "folder")


def test_a_write_that_fails_later_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    place = tmp_path / "place"
    place.mkdir()
    file, _revoked, _clock = _start(place / "state")
    (place / "state.turbo").unlink()
    place.rmdir()
    asyncio.run(file.stop(0.0))
    assert "a restart would forget them" in caplog.text


def test_a_slow_disk_does_not_hold_the_loop_and_writes_keep_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_file, "_INTERVAL", 0.001)
    file, revoked, _clock = _start(tmp_path / "state")
    syncing, answered = threading.Event(), threading.Event()
    sync = os.fsync

    def slow(fd: int) -> None:
        syncing.set()
        assert answered.wait(20)
        sync(fd)

    monkeypatch.setattr(os, "fsync", slow)

    async def run() -> None:
        await file.start()
        revoked.add(["first"], 1e9)
        async with asyncio.timeout(20):
            while not syncing.is_set():
                await asyncio.sleep(0.001)
        revoked.add(["last"], 1e9)
        stopping = asyncio.create_task(file.stop(time.monotonic() + 20))
        await asyncio.sleep(0)
        answered.set()
        await stopping

    asyncio.run(run())
    assert load((tmp_path / "state.turbo").read_bytes()).revoked == ("first", "last")


def test_a_disk_that_never_answers_does_not_keep_the_worker_from_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(state_file, "_LAST_WRITE", 0.01)
    file, revoked, _clock = _start(tmp_path / "state")
    never = threading.Event()
    monkeypatch.setattr(os, "fsync", lambda _fd: never.wait(20))
    revoked.add(["late"], 1e9)
    asyncio.run(file.stop(0.0))
    left = load((tmp_path / "state.turbo").read_bytes())
    never.set()
    assert "does not answer" in caplog.text
    assert left.revoked == ()


@pytest.mark.row("TM13")
def test_celerys_file_is_taken_over_once_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "state"
    celerys_state.revoked.clear()
    try:
        celerys_state.revoked.add("from-celery")
        kept = celerys_state.Persistent(celerys_state, str(path), Celery(set_as_current=False).clock)
        kept.clock.adjust(900)
        kept.save()
    finally:
        celerys_state.revoked.clear()
    before = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    file, revoked, clock = _start(path)
    assert revoked.ids() == ["from-celery"]
    assert clock.value > 900
    asyncio.run(file.stop(0.0))
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    (tmp_path / "state.turbo").write_bytes(b'{"version": 1, "clock": 1, "revoked": []}')
    assert _start(path)[1].ids() == []


def test_a_file_of_celerys_that_cannot_be_read_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with shelve.open(str(tmp_path / "state")) as file:
        file["zrevoked"] = b"no zlib"
    assert _start(tmp_path / "state")[1].ids() == []
    assert "Celery's state file" in caplog.text
