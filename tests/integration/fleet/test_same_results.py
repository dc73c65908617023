"""Canvas, retries and times whose parts run on either make of worker end as they do where all are Celery's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.harness.rabbitmq import RabbitMQ
from tests.harness.redis_server import RedisServer
from tests.integration.fleet.conftest import Fleet, fleet, masked

Outcomes = dict[str, dict[str, Any]]

#: What each scenario gives. ``fleet_client`` says what it is.
EXPECTED = {
    "chain": 6,
    "chain on the shared queue": 10,
    "group": [0, 2, 4, 6, 8, 10, 12, 14],
    "group on the shared queue": [True] * 6,
    "chord": 30,
    "chord, body on the other side": 30,
    "chord on the shared queue": 55,
    "chord of chains": 9,
    "chord in a chord": 14,
    "chain of groups of chains": 13,
    "chain that fails": "ValueError: mid",
    "chord whose header fails": "ValueError: header",
    "callback": 3,
    "error callback": "ValueError: x",
    "error callback, the other side": "ValueError: x",
    "error callback sent": "ValueError: x",
    "error callback sent, the other way": "ValueError: x",
    "replaced": 3,
    "replaced in a chord": 10,
    "chunks": [[0, 2], [4, 6], [8, 10]],
    "starmap": [4, 8],
    "retries that hop": 2,
    "retries on the shared queue": 2,
    "retries until there are none, on the shared queue": "KeyError: 2",
    "retries in a chord": 3,
    "eta": True,
    "eta, the other side": True,
    "eta on the shared queue": True,
    "countdown within a chain": 4,
    "states": "whole",
    "states, the other side": "whole",
    "two megabytes": 2_000_000,
    "pickle": 3,
    "pickle, the other side": 3,
    "kept by chord": 'total: ChordError("Dependency ',
    "kept by link": "3",
    "kept by error": "boom: ValueError('x')",
    "kept by error too": "boom: ValueError('x')",
    "kept by sent": "later",
    "kept by sent too": "later",
}
#: Those whose steps name queues of both workers, or which end only when both take part.
EVERYBODYS = (
    "chain", "group", "group on the shared queue", "chord", "chord, body on the other side", "chord of chains",
    "chord in a chord", "chain of groups of chains", "chain that fails", "replaced", "replaced in a chord",
    "retries that hop", "retries in a chord", "countdown within a chain", "two megabytes",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    """A fleet of two workers."""

    left: str
    right: str
    first: str = "left"
    queue_type: str = "classic"

    def makes(self) -> dict[str, str]:
        both = {"left": self.left, "right": self.right}
        return dict(sorted(both.items(), key=lambda item: item[0] != self.first))


CASES = {
    "celery declares, turbo joins": Case("celery", "turbo"),
    "turbo declares, celery joins": Case("turbo", "celery"),
    "quorum, celery declares": Case("celery", "turbo", queue_type="quorum"),
    "quorum, turbo declares": Case("celery", "turbo", first="right", queue_type="quorum"),
    "beside Celery 5.3": Case("celery 5.3", "turbo"),
}


@pytest.fixture(scope="module")
def reference(rabbitmq: RabbitMQ, redis_server: RedisServer) -> Outcomes:
    """What two of Celery's workers make of it."""
    with fleet(rabbitmq, redis_server, Case("celery", "celery").makes(), "-c", "2") as made:
        return made.outcomes()


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture(scope="module")
def mixed(case: Case, rabbitmq: RabbitMQ, redis_server: RedisServer) -> Iterator[Fleet]:
    with fleet(rabbitmq, redis_server, case.makes(), "-c", "2", queue_type=case.queue_type) as made:
        yield made


@pytest.fixture(scope="module")
def outcomes(mixed: Fleet) -> Outcomes:
    return mixed.outcomes()


def matches(value: object, expected: object) -> bool:
    """Errors are compared by how they begin: their texts hold ids."""
    return str(value).startswith(expected) if isinstance(expected, str) else value == expected


def test_celerys_own_workers_give_what_is_expected(reference: Outcomes) -> None:
    assert reference.keys() == EXPECTED.keys()
    wrong = {name: told["value"] for name, told in reference.items() if not matches(told["value"], EXPECTED[name])}
    assert wrong == {}


@pytest.mark.row("CN17", "CN18", "WP1", "EC14")
def test_the_same_values(outcomes: Outcomes, mixed: Fleet) -> None:
    assert outcomes.keys() == EXPECTED.keys()
    wrong = {name: told["value"] for name, told in outcomes.items() if not matches(told["value"], EXPECTED[name])}
    assert wrong == {}, "\n".join(worker.output for worker in mixed.workers.values())


@pytest.mark.row("RU10", "EC14")
def test_both_took_part(outcomes: Outcomes) -> None:
    workers = {name: {line.split()[0] for line in outcomes[name]["ran"]} for name in EVERYBODYS}
    assert {name: who for name, who in workers.items() if who != {"left", "right"}} == {}


def test_the_same_runs(outcomes: Outcomes, reference: Outcomes) -> None:
    """Every task as often as there, and each attempt at a queue of one worker by that worker."""
    for name, told in outcomes.items():
        ours, theirs = sorted(told["ran"]), sorted(reference[name]["ran"])
        if "shared" in name:
            ours, theirs = (sorted(line.split(maxsplit=1)[1] for line in lines) for lines in (ours, theirs))
        assert ours == theirs, name


def test_the_same_documents(outcomes: Outcomes, reference: Outcomes) -> None:
    for name, told in outcomes.items():
        assert masked(told["documents"]) == masked(reference[name]["documents"]), name


def test_nobody_had_anything_to_complain_about(outcomes: Outcomes, mixed: Fleet, case: Case) -> None:
    """Above all not about each other's queues. Celery says CRITICAL where it cannot prepare delayed delivery yet."""
    assert outcomes
    for name, worker in mixed.workers.items():
        assert "PRECONDITION_FAILED" not in worker.output, name
    turbo = mixed.workers["left" if case.left == "turbo" else "right"]
    assert "CRITICAL" not in turbo.output
