"""What another process is told to import: the app by its place, in the way in which this one did."""

from __future__ import annotations

import pickle
import sys
from typing import Any

import pytest

from turbo.cli import fresh_spawner
from turbo.cli.app_option import FoundApp
from turbo.policy.worker_options import WorkerOptions
from turbo.spawner.fresh_start import FreshStartFailed

OPTIONS = WorkerOptions("w@here", 2)


def brief(where: str) -> fresh_spawner.Brief:
    app: Any = None
    return fresh_spawner.brief(FoundApp(app, where, "from -A"), {"overrides": ()}, OPTIONS)


def test_the_brief_can_be_read_by_another_process() -> None:
    packed = pickle.loads(pickle.dumps(brief("proj.celery:app")))
    assert packed == brief("proj.celery:app")
    assert (packed.path, packed.arguments, packed.options) == (tuple(sys.path), tuple(sys.argv), OPTIONS)


@pytest.mark.row("RC25")
def test_an_app_that_no_module_has_cannot_be_imported_by_another_process() -> None:
    child: Any = None
    start = fresh_spawner.starter(brief("<Turbo proj:0x7f>"))(child, None)
    with pytest.raises(FreshStartFailed, match="no other process can import the app <Turbo proj:0x7f>"):
        start([])
