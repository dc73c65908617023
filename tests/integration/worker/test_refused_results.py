"""A store that answers and never takes a result: here Redis, for a user that may not touch its keys."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.integration.worker.site import Site


@pytest.fixture(scope="module", autouse=True)
def worker(site: Site) -> Iterator[None]:
    """A worker whose results are refused."""
    name, word = f"reads-{uuid.uuid4().hex[:8]}", "word"
    site.store.execute_command("ACL", "SETUSER", name, "on", f">{word}", "~none", "&*", "+@all")
    address = site.store.connection_pool.connection_kwargs
    backend = f"redis://{name}:{word}@{address['host']}:{address['port']}/{address['db']}"
    with site.running("-c", "1", "--result-backend", backend):
        yield
    site.store.execute_command("ACL", "DELUSER", name)


@pytest.mark.row("P22")
@pytest.mark.parametrize("how", ["return", "raise"])
@pytest.mark.parametrize(("task", "dead"), [("early", 0), ("late", 0), ("late strict", 1)])
def test_its_task_does_not_run_again_and_counts_as_failed(site: Site, task: str, how: str, dead: int) -> None:
    identifier = site.send(task, how)
    site.worker.wait_for_line(rf"{identifier}.*NOPERM")
    site.wait_settled()
    assert [letter.id for letter in site.dead_letters(dead)] == [identifier] * dead
    assert site.starts(identifier) == 1
