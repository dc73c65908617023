"""The pickled entries of Celery's beat: which last runs are read, and that no pickle runs code."""

from __future__ import annotations

import os
import pickle
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from turbo.beat.celery_entries import load
from turbo.beat.runs import Run

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
ENTRY = b"ccelery.beat\nScheduleEntry\n"


class Calls:
    """Pickled, it is a call of ``function``."""

    def __init__(self, function: Any, *args: Any) -> None:
        self._call = function, args

    def __reduce__(self) -> Any:
        return self._call


def pickled(name: str, last_run_at: bytes, count: bytes = b"I7\n", rest: bytes = b"N") -> bytes:
    """One entry, whose fields are pickle opcodes."""
    fields = b"Vtick\nVproj.tick\n" + last_run_at + count + rest + b"(t}}"
    return b"(dV" + name.encode() + b"\n" + ENTRY + b"(" + fields + b"tRs."


def opcodes(value: Any) -> bytes:
    """The opcodes of a value, without the protocol before them and the stop behind."""
    return pickle.dumps(value, protocol=3)[2:-1]


def test_the_last_run_of_an_entry() -> None:
    found = load(pickled("tick", opcodes(NOON)))
    assert (found.runs, found.unreadable) == ({"tick": Run(NOON, 7)}, ())


def test_a_time_without_a_zone_is_utc() -> None:
    assert load(pickled("tick", opcodes(NOON.replace(tzinfo=None)))).runs == {"tick": Run(NOON, 7)}


@pytest.mark.parametrize("zone", [b"cpytz\n_UTC\n(tR", b"cpytz\n_p\n(VEurope/Paris\nI7200\nI3600\nVCEST\ntR"])
def test_a_time_of_pytz(zone: bytes) -> None:
    local = NOON if b"UTC" in zone else NOON.replace(hour=14)
    state = opcodes(local.replace(tzinfo=None).__reduce_ex__(3)[1][0])
    assert load(pickled("tick", b"cdatetime\ndatetime\n(" + state + zone + b"tR")).runs == {"tick": Run(NOON, 7)}


@pytest.mark.parametrize(
    ("when", "count"),
    [
        (b"N", b"I7\n"),
        (b"Vyesterday\n", b"I7\n"),
        (opcodes(NOON), b"I-1\n"),
        (opcodes(NOON), b"Vmany\n"),
        (b"cdatetime\ndatetime\n(" + opcodes(NOON.__reduce_ex__(3)[1][0]) + b"cmine\nZone\n(tRtR", b"I7\n"),
    ],
)
def test_an_entry_without_a_known_last_run_is_named(when: bytes, count: bytes) -> None:
    found = load(pickled("tick", when, count))
    assert (found.runs, found.unreadable) == ({}, ("tick",))


@pytest.mark.parametrize(
    "data", [b"", b"\x80\x04.", b"N.", b"]q\x01.", b"(dI1\nI2\ns.", b"\x80\x04P1\n.", b"cdatetime\n"]
)
def test_what_is_no_dict_of_entries(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        load(data)


def test_no_function_of_a_pickle_is_called(tmp_path: Path) -> None:
    traces = [tmp_path / str(number) for number in range(3)]
    calls = [
        Calls(os.system, f"touch {traces[0]}"),
        Calls(eval, f"open({str(traces[1])!r}, 'w')"),
        Calls(getattr, Calls(__import__, "os"), "system"),
        Calls(os.mkdir, str(traces[2])),
    ]
    harmful = opcodes(calls)
    found = load(pickled("tick", opcodes(NOON), rest=harmful))
    assert found.runs == {"tick": Run(NOON, 7)}
    load(pickled("tick", harmful))
    assert not any(trace.exists() for trace in traces)


def test_no_module_of_a_pickle_is_imported() -> None:
    assert "this" not in sys.modules
    found = load(pickled("tick", opcodes(NOON), rest=b"cthis\nd\n(tRcantigravity\nfly\n0"))
    assert found.runs == {"tick": Run(NOON, 7)}
    assert "this" not in sys.modules
