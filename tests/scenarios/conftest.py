"""Sends all scenarios once to each worker, for the tests to compare the outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.harness.celery_env import OLD_WITH_TURBO, celery_python
from tests.harness.processes import HarnessError
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.redis_server import RedisServer
from tests.harness.worker import WorkerProcess
from tests.scenarios.place import COMMANDS, QUIET, READY, Observed, Place
from tests.scenarios.rows import ALL, SERIAL
from tests.scenarios.scenario import Scenario

#: The two sets of options, with what they run.
CROWD = ("-c", "6")
ALONE = ("-c", "1", "--prefetch-multiplier", "1")
EXTENDED = {"RECORD_RECEIVED": "1", "EXTRAS": '{"result_extended": true}'}


@dataclass(frozen=True, slots=True)
class Run:
    """The outcomes of all scenarios under one worker."""

    observed: dict[tuple[str, str], Observed]
    left: dict[str, int]
    status: int
    output: str


class _Ground:
    """The servers and directory of the runs."""

    def __init__(self, rabbitmq: RabbitMQ, redis_server: RedisServer, directory: Path) -> None:
        self._rabbitmq = rabbitmq
        self._redis = redis_server
        self._directory = directory

    def place(self, stack: ExitStack, name: str, scenarios: Sequence[Scenario]) -> Place:
        """Make an empty virtual host, database and directory, which last until the stack is closed."""
        self._rabbitmq.ensure_running()
        self._redis.ensure_running()
        directory = self._directory / name
        directory.mkdir()
        place = Place(self._rabbitmq, self._redis.new_database(), directory, scenarios)
        stack.callback(place.close)
        return place


def _carried_out(
    stack: ExitStack, places: dict[tuple[str, str], Place], workers: dict[tuple[str, str], WorkerProcess]
) -> dict[tuple[str, str], Run]:
    for place in places.values():
        place.send(early=True)
    for worker in workers.values():
        stack.enter_context(worker)
    for worker in workers.values():
        worker.wait_for_line(READY, timeout=200)
    for place in places.values():
        place.send(early=False)
    for place in places.values():
        place.wait(others=False)

    def look(name: tuple[str, str]) -> None:
        try:
            places[name].look_during()
        except HarnessError as error:
            error.add_note(f"{name}: {places[name].facts()}\n{workers[name].output[-6000:]}")
            raise

    # Nothing else may wait in a queue: it would take the place of a message that is to be taken in now. Much of
    # what is looked at lasts seconds, so the places are looked at beside one another.
    with ThreadPoolExecutor(len(places)) as threads:
        list(threads.map(look, places))
    for place in places.values():
        place.wait(others=True)
    for worker in workers.values():
        worker.terminate()
    statuses = {name: worker.wait(200) for name, worker in workers.items()}
    return {
        name: Run(place.observe(), place.left(), statuses[name], workers[name].output) for name, place in places.items()
    }


@pytest.fixture(scope="session")
def ground(rabbitmq: RabbitMQ, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> _Ground:
    """The servers and directory of the runs."""
    return _Ground(rabbitmq, redis_server, tmp_path_factory.mktemp("scenarios"))


@pytest.fixture(scope="session")
def runs(ground: _Ground) -> dict[tuple[str, str], Run]:
    """The outcomes of the scenarios, by worker and set of options; all runs take place at the same time."""
    with ExitStack() as stack:
        places, workers = {}, {}
        for make in COMMANDS:
            for options in ("crowd", "alone"):
                crowd = options == "crowd"
                place = ground.place(stack, f"{make}-{options}", ALL if crowd else SERIAL)
                worker = place.worker(make, *(CROWD if crowd else ALONE), *QUIET[make], env={} if crowd else EXTENDED)
                places[make, options] = place
                workers[make, options] = worker
        return _carried_out(stack, places, workers)


@pytest.fixture(scope="session")
def old_run(ground: _Ground) -> Run:
    """The outcomes of some scenarios under turbo's worker with Celery 5.3."""
    with ExitStack() as stack:
        place = ground.place(stack, "turbo-5.3", [each for each in ALL if each.smoke])
        worker = place.worker("turbo", *CROWD, command=(str(celery_python(OLD_WITH_TURBO)), "-m", "turbo"))
        return _carried_out(stack, {("turbo", "5.3"): place}, {("turbo", "5.3"): worker})["turbo", "5.3"]
