"""Every event of a task is the one that Celery's worker sends, in the same order, with the queue beside its fields."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.harness.monitor import Monitor
from tests.harness.processes import HarnessError, wait_until
from tests.integration.events.conftest import Site

RECEIVED, STARTED = "task-received", "task-started"
#: How a task ends: its events after the first two.
ENDS: dict[str, tuple[str, ...]] = {
    "given": ("task-succeeded",),
    "none": ("task-succeeded",),
    "long": ("task-succeeded",),
    "named": ("task-succeeded",),
    "held": ("task-succeeded",),
    "failed": ("task-failed",),
    "retried": ("task-retried", RECEIVED, STARTED, "task-succeeded"),
    "ignored": (),
    "rejected early": ("task-failed",),
    "rejected late": ("task-failed", "task-rejected"),
    "put back": ("task-rejected", RECEIVED, STARTED, "task-succeeded"),
    "failed late": ("task-rejected", "task-failed"),
    "terminated": ("task-revoked",),
    "overrun": ("task-failed",),
    "lost": ("task-failed",),
    "lost and put back": ("task-rejected", RECEIVED, STARTED, "task-succeeded"),
}
#: Tasks that do not start.
OTHERS: dict[str, tuple[str, ...]] = {
    "expired": (RECEIVED, "task-revoked"),
    "revoked": ("task-revoked",),
    "unknown": ("task-failed",),
    "quiet": (),
}
#: Fields that differ from run to run.
_VOLATILE = {"timestamp", "local_received", "clock", "pid", "uuid", "root_id", "runtime", "eta", "expires", "traceback"}


def _terminated(site: Site, monitor: Monitor) -> str:
    identifier = site.send("wait", "waits")
    wait_until("the task to end runs", (site.directory / "waits").exists, 60)
    monitor.wait_types(identifier, RECEIVED, STARTED)
    site.ask("revoke", task_id=identifier, terminate=True, signal="SIGTERM")
    return identifier


def _revoked(site: Site) -> str:
    identifier = "f3a3f8dc-0000-4000-8000-000000000001"
    site.ask("revoke", task_id=identifier)
    return site.send("give", 1, task_id=identifier)


def run_all(site: Site, monitor: Monitor) -> dict[str, list[dict[str, Any]]]:
    """Send every kind of task; their events, by kind."""
    # The first, and with time to spare: where it has expired when it is received, it is not told of as received.
    expired = site.send("give", 4, countdown=8.0, expires=7.0)
    sent = {
        "given": site.send("give", {"a": (1, "ü")}, kwargs={"why": "so"}),
        "none": site.send("give", None),
        "long": site.send("long", 5_000),
        "named": site.send("give", 2, shadow="another.name"),
        "held": site.send("give", 3, countdown=1.0),
        "failed": site.send("fail", "no"),
        "retried": site.send("retry"),
        "ignored": site.send("ignore"),
        "rejected early": site.send("reject"),
        "rejected late": site.send("reject_late"),
        "put back": site.send("put_back"),
        "failed late": site.send("fail_late"),
        "overrun": site.send("overrun"),
        "lost": site.send("die"),
        "lost and put back": site.send("die_late"),
        "expired": expired,
        "revoked": _revoked(site),
        "unknown": site.send("no such task"),
        "quiet": site.send("quiet"),
    }
    sent["terminated"] = _terminated(site, monitor)
    site.wait_state(sent["quiet"], "SUCCESS")
    wanted = {kind: (RECEIVED, STARTED, *rest) for kind, rest in ENDS.items()} | OTHERS
    assert wanted.keys() == sent.keys()
    # Celery's pool may report a child that it killed for its limit twice.
    more = site.kind == "celery"
    return {kind: monitor.wait_types(sent[kind], *types, more=more) for kind, types in wanted.items()}


@pytest.fixture(scope="module")
def seen(make_site: Callable[[str], Site]) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """What a monitor hears of each kind of worker."""
    found = {}
    for kind in ("celery", "adopted", "native"):
        site = make_site(kind)
        with site.watched("-c", "2", "-E") as (monitor, _worker):
            try:
                found[kind] = run_all(site, monitor)
            except HarnessError as error:
                raise HarnessError(f"{kind}: {error}") from error
    return found


def _steady(event: dict[str, Any]) -> dict[str, Any]:
    """The fields of an event that are the same in every run; Celery has no queue."""
    fields = {name: value for name, value in event.items() if name not in _VOLATILE | {"queue"}}
    if fields.get("parent_id"):
        fields["parent_id"] = "an id"
    return fields


def _error(event: dict[str, Any]) -> list[str]:
    """The class of an error, as the traceback's last line names it, and its text; no module."""
    name, *text = event["traceback"].strip().splitlines()[-1].split(": ", 1)
    return [name.rsplit(".")[-1], *text]


@pytest.mark.row("EV2", "EV3", "EV4", "EV5", "EV6", "EV7", "EV8", "EV12", "EV15", "CL12")
@pytest.mark.parametrize("kind", ["adopted", "native"])
@pytest.mark.parametrize("case", [*ENDS, *OTHERS])
def test_the_events_of_a_task(seen: dict[str, dict[str, list[dict[str, Any]]]], case: str, kind: str) -> None:
    theirs, ours = seen["celery"][case], seen[kind][case]
    for event, like in zip(ours, theirs, strict=True):
        assert event["queue"] == "celery"
        assert event.keys() - {"queue"} == like.keys()
        expected, found = _steady(like), _steady(event)
        if expected.get("exception") == "ExceptionWithTraceback()":
            # Celery says no more of an error that its master made.
            assert found.pop("exception").startswith(f"{_error(like)[0]}(")
            del expected["exception"]
        elif "traceback" in event:
            assert _error(event) == _error(like)
        assert found == expected
        for name in ("runtime", "eta", "expires", "pid", "clock", "timestamp"):
            assert type(event.get(name)) is type(like.get(name)), name


@pytest.mark.row("EV12", "EV17")
@pytest.mark.parametrize("kind", ["adopted", "native"])
def test_the_clock_orders_them(seen: dict[str, dict[str, list[dict[str, Any]]]], kind: str) -> None:
    for case, events in seen[kind].items():
        if case != "retried":  # its attempts may overlap
            clocks, times = [event["clock"] for event in events], [event["timestamp"] for event in events]
            assert clocks == sorted(set(clocks))
            assert times == sorted(times)


def test_a_long_result_is_cut_as_celery_cuts_it(seen: dict[str, dict[str, list[dict[str, Any]]]]) -> None:
    results = {kind: found["long"][-1]["result"] for kind, found in seen.items()}
    assert len(results["native"]) < 1_100
    assert len(set(results.values())) == 1
