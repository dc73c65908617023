"""Messages that kill whatever child takes them: given up after a bounded number of starts, and no harm to others."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness.oracle import Oracle
from tests.integration.worker.site import Site
from tests.integration.worker.tasks import CLASSIC, QUORUM

MOST = 5


@pytest.fixture(scope="module", autouse=True)
def worker(site: Site) -> Iterator[None]:
    """One worker with the default bound."""
    with site.running("-c", "2"):
        yield


@pytest.mark.row("P4", "CN8", "PL15")
@pytest.mark.parametrize("queue", [CLASSIC, QUORUM])
def test_it_is_given_up_and_the_others_run(site: Site, queue: str) -> None:
    good = [site.send("late strict", "return", queue=queue) for _ in range(50)]
    poison = [site.send("late strict", "always die", queue=queue) for _ in range(3)]
    good += [site.send("late strict", "return", queue=queue) for _ in range(50)]

    dead = site.dead_letters(len(poison))

    assert {letter.id for letter in dead} == set(poison)
    for letter in dead:
        assert (letter.reason, letter.queue) == ("rejected", queue)
        assert letter.headers["x-turbo-deliveries"] == MOST
        assert "signal 9 (SIGKILL)" in letter.headers["x-turbo-last-death"]
    for identifier in poison:
        assert site.starts(identifier) == MOST
        document = site.wait_document(identifier)
        assert (document["status"], document["result"]["exc_type"]) == ("FAILURE", "WorkerLostError")
        assert f"after {MOST} deliveries" in document["result"]["exc_message"][0]
        assert "signal 9 (SIGKILL)" in document["result"]["exc_message"][0]
    for identifier in good:
        assert site.wait_document(identifier)["status"] == "SUCCESS"
    site.wait_settled(queue)
    assert _repeated(site.oracle).isdisjoint(good), "a message paid for the death of a child that did not run it"


@pytest.mark.row("P4")
@pytest.mark.parametrize("queue", [CLASSIC, QUORUM])
def test_a_hard_limit_that_is_not_acknowledged_comes_back_as_often_as_a_death(site: Site, queue: str) -> None:
    identifier = site.send("late strict", "always hang", queue=queue, time_limit=1.0)
    dead = site.dead_letters(1)
    assert (dead[0].id, dead[0].headers["x-turbo-deliveries"]) == (identifier, MOST)
    assert "TimeLimitExceeded" in dead[0].headers["x-turbo-last-death"]
    assert site.starts(identifier) == MOST
    site.wait_settled(queue)


@pytest.mark.row("PL31", "PL15")
def test_children_that_die_with_nothing_to_do_fail_nothing(site: Site) -> None:
    for child in site.worker.children("ForkPoolWorker"):
        child.kill()
    sent = [site.send("early", "return") for _ in range(20)]
    for identifier in sent:
        assert site.wait_document(identifier)["status"] == "SUCCESS"
    assert _repeated(site.oracle).isdisjoint(sent)


def _repeated(oracle: Oracle) -> set[str]:
    seen: set[str] = set()
    return {identifier for identifier in oracle.ids("start") if identifier in seen or seen.add(identifier)}  # type: ignore[func-returns-value]
