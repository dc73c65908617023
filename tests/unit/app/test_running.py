"""Programs that start a worker of turbo's own apps, up to the worker itself."""

from __future__ import annotations

import pytest

from turbo import Turbo


def test_worker_main_is_for_workers() -> None:
    with pytest.raises(ValueError, match="worker_main"):
        Turbo("proj", set_as_current=False).worker_main(["beat"])


def test_stopping_a_worker_that_does_not_run_does_nothing() -> None:
    worker = Turbo("proj", set_as_current=False).Worker(hostname="w1@here")
    worker.stop()
    worker.terminate()
    assert worker.exitcode is None
