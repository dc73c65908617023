"""What both workers take of a machine's memory for the same tasks and as many children."""

from __future__ import annotations

import pytest

from bench.meters import pss
from tests.compat.conftest import Place, celery_worker, turbo_worker
from turbo.app.base import Turbo


@pytest.mark.row("PL30")
def test_an_idle_worker_takes_less_than_celerys(place: Place) -> None:
    with turbo_worker(place) as ours:
        _use(place)
        turbo = pss(ours.pid)
    with celery_worker(place) as theirs:
        _use(place)
        celery = pss(theirs.pid)
    # Proportional set size: what processes share counts once.
    assert 0 < turbo < celery


def _use(place: Place) -> None:
    """Let the worker run something, so that it has loaded what it needs."""
    with Turbo("client", broker=place.broker, backend=place.backend, set_as_current=False) as app:
        assert app.send_task("add", (1, 2)).get(timeout=60) == 3
