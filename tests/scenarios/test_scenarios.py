"""The same scenarios under four pairs: Celery's client and turbo's, ``celery worker`` and ``turbo worker``.

The app is one unmodified ``celery.Celery``. Every scenario says how its messages end; beyond that, everything that can
be seen of it (stored documents, what clients read, signals, handlers, dead letters) is compared with what Celery's
worker makes of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from tests.scenarios.apps.scenario_settings import CLIENTS
from tests.scenarios.conftest import Run
from tests.scenarios.differences import WRAPPER, begun_once, comparable, differences_of, met, plain, settled, unlike
from tests.scenarios.place import COMMANDS, Observed
from tests.scenarios.rows import ALL, SERIAL, acks, canvas, messages, tasks
from tests.scenarios.scenario import ANYTHING, End, Scenario

pytestmark = pytest.mark.timeout(900)  # the first test carries all of them out

#: The two sets of options of a worker, with what it is sent.
SETS = (("crowd", ALL), ("alone", SERIAL))
Runs = dict[tuple[str, str], Run]
PAGE = Path(__file__).parents[2] / "docs" / "compatibility.md"
#: Lines of the recorder that explicit expectations leave to the comparison.
UNTOLD = {"publish", "received"}


def pairs(scenarios: Iterable[Scenario], makes: Iterable[str] = COMMANDS) -> list[Any]:
    """Each scenario with each worker and each client that can send it."""
    return [
        pytest.param(make, client, each, id=f"{make}-{client}-{each.name}")
        for make in makes
        for each in scenarios
        for client in CLIENTS
        if client == "celery" or not each.celery_only
    ]


def check(make: str, observed: Observed, scenario: Scenario, *, heard: bool = True) -> None:
    """Everything is as the scenario says."""
    observed = settled(observed, differences_of(make))
    assert observed.dead == sorted(scenario.dead)
    for label, end in scenario.ends.items():
        check_end(observed.documents.get(label), adapted(end) if make == "native" else end)
        assert observed.read[label]["state"] == (end.state or "PENDING")
    stored = {label for label, end in scenario.ends.items() if end.state is not None}
    assert stored <= observed.documents.keys()
    for label, children in scenario.children.items():
        assert observed.read[label]["children"] == children
    for label, words in scenario.heard.items() if heard else ():
        told = observed.lines[label]
        left_out = UNTOLD - {word.split()[-1] for word in words}
        assert [f"{who} {event}" for _, who, event, *_ in told if event not in left_out] == list(words), label
    if scenario.order:
        assert tuple(observed.order) == scenario.order
    assert observed.seen == scenario.seen


def adapted(end: End) -> End:
    """The end of a message under turbo's own API, where what may differ shows in it."""
    if end.error.endswith(WRAPPER):
        return replace(end, error=f"scenario_errors.{end.text}", text="", last_line=f"scenario_errors.{end.text}")
    return replace(end, last_line=plain(end.last_line)) if isinstance(end.last_line, str) else end


def check_end(document: dict[str, Any] | None, end: End) -> None:
    """A message's document is as it should be."""
    if end.state is None:
        assert document is None
        return
    assert document is not None
    assert document["status"] == end.state, document
    if not end.error:
        assert end.result == document["result"]
        return
    result = document["result"]
    assert f"{result['exc_module']}.{result['exc_type']}" == end.error
    assert end.text in str(result["exc_message"])
    if end.last_line is None:
        assert document["traceback"] is None
    else:
        begins, last = document["traceback"]
        assert end.last_line is ANYTHING or (begins and last.startswith(end.last_line))


def outcome(runs: Runs, make: str, client: str, scenario: Scenario, options: str = "crowd") -> Observed:
    """What came of one client's scenario under one worker."""
    run = runs[make, options]
    assert run.status == 0
    observed = run.observed[client, scenario.name]
    return begun_once(observed) if make == "celery" else observed


@pytest.mark.row("CN4", "CN6", "CN7", "CN8", "CN9", "CN10", "SP1", "SP3", "SP4", "SP6", "PL1", "PL7", "TM5", "WP21")
@pytest.mark.parametrize(("make", "client", "scenario"), pairs(acks.ROWS))
def test_acknowledgements(runs: Runs, make: str, client: str, scenario: Scenario) -> None:
    check(make, outcome(runs, make, client, scenario), scenario)


@pytest.mark.row("RT1", "RT2", "RT3", "RT4", "RT5", "RT7", "RT9", "RT11", "RT13", "RT14", "RT15", "RT21")
@pytest.mark.parametrize(("make", "client", "scenario"), pairs(tasks.RETRIES))
def test_retries(runs: Runs, make: str, client: str, scenario: Scenario) -> None:
    check(make, outcome(runs, make, client, scenario), scenario)


@pytest.mark.row("ST2", "ST4", "ST6", "ST14", "SP2", "CA14", "CA21")
@pytest.mark.parametrize(("make", "client", "scenario"), pairs((*tasks.RESULTS, *tasks.ERRORS)))
def test_results_and_errors(runs: Runs, make: str, client: str, scenario: Scenario) -> None:
    check(make, outcome(runs, make, client, scenario), scenario)


@pytest.mark.row("HA1", "HA2", "HA3", "HA4", "HA5", "HA6", "HA8", "HA9")
@pytest.mark.parametrize(("make", "client", "scenario"), pairs(tasks.CLASSES))
def test_classes_handlers_and_requests(runs: Runs, make: str, client: str, scenario: Scenario) -> None:
    check(make, outcome(runs, make, client, scenario), scenario)


@pytest.mark.row("WP4", "WP6", "WP11", "WP17", "WP18", "EX21", "CA12", "CA13")
@pytest.mark.parametrize(("make", "client", "scenario"), pairs(messages.ROWS))
def test_messages(runs: Runs, make: str, client: str, scenario: Scenario) -> None:
    check(make, outcome(runs, make, client, scenario), scenario)


@pytest.mark.row("CA16", "CA17", "EX9", "EX10", "EX11")
@pytest.mark.row("CV2", "CV3", "CV4", "CV5", "CV6", "CV7", "CV10", "CV11", "CV12", "CV13", "CV14", "CV15", "CV16")
@pytest.mark.parametrize(("make", "client", "scenario"), pairs(canvas.ROWS))
def test_canvas(runs: Runs, make: str, client: str, scenario: Scenario) -> None:
    check(make, outcome(runs, make, client, scenario), scenario)


@pytest.mark.row("CN25", "TM5", "TM7", "TM8", "TM10", "ST19")
@pytest.mark.parametrize(("make", "client", "scenario"), pairs(SERIAL))
def test_one_at_a_time_with_extended_results(runs: Runs, make: str, client: str, scenario: Scenario) -> None:
    check(make, outcome(runs, make, client, scenario, "alone"), scenario)


@pytest.mark.parametrize("options", ["crowd", "alone"])
@pytest.mark.parametrize("make", list(COMMANDS))
def test_nothing_is_left_in_the_queues(runs: Runs, make: str, options: str) -> None:
    run = runs[make, options]
    assert run.left == {}, run.output[-5000:]


@pytest.mark.parametrize(
    ("options", "make", "client", "scenario"),
    [
        pytest.param(options, *case.values, id=f"{options}-{case.id}")
        for options, scenarios in SETS
        for case in pairs(scenarios, makes=("turbo", "native"))
    ],
)
def test_all_that_can_be_seen_is_as_under_celery_worker(
    runs: Runs, options: str, make: str, client: str, scenario: Scenario
) -> None:
    theirs, ours = (outcome(runs, each, client, scenario, options) for each in ("celery", make))
    found = unlike(*(asdict(comparable(each, scenario, differences_of(make))) for each in (theirs, ours)))
    assert not found, "\n".join(found)


@pytest.mark.parametrize("make", ["turbo", "native"])
def test_differences_are_met_and_named(runs: Runs, make: str) -> None:
    """The list is no longer than it must be, and its reasons are in the manual."""
    differences = differences_of(make)
    seen: set[str] = set()
    for options, scenarios in SETS:
        for case in pairs(scenarios, makes=[make]):
            _, client, scenario = case.values
            theirs, ours = (outcome(runs, each, client, scenario, options) for each in ("celery", make))
            seen |= set(met(theirs, ours, differences))
    assert seen == {difference.name for difference in differences}
    page = PAGE.read_text()
    assert [each.name for each in differences if f"| {each.name} |" not in page] == []


@pytest.mark.parametrize(("make", "client", "scenario"), pairs([each for each in ALL if each.smoke], makes=["turbo"]))
def test_with_an_app_whose_celery_is_old(old_run: Run, make: str, client: str, scenario: Scenario) -> None:
    assert (old_run.status, old_run.left) == (0, {})
    check(make, old_run.observed[client, scenario.name], scenario, heard=False)


def test_enough_scenarios() -> None:
    names = [each.name for each in (*ALL, *SERIAL)]
    assert len(set(names)) >= 60
    assert len({each.name for each in ALL}) == len(ALL), "names are unique"
