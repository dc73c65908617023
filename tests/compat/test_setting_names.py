"""A worker reads the settings of an app by every name that the installed Celery knows, of whatever version it is."""

from __future__ import annotations

import json

import pytest

from tests.compat.conftest import ROOT
from tests.harness.celery_env import BATCHES_WITH_TURBO, CURRENT, OLD_WITH_TURBO, celery_producer

#: Prints what turbo's worker reads; one key has the setting's value changed by the program after its start.
SCRIPT = """
import json, sys
from celery import Celery
from turbo.adopted.settings import AdoptedSettings

app = Celery("proj", set_as_current=False)
app.config_from_object(json.loads(sys.argv[1]), namespace=sys.argv[2] or None)
app.conf.task_time_limit = 60
settings = AdoptedSettings(app)
names = ("worker_concurrency", "accept_content", "task_acks_late", "worker_prefetch_multiplier", "task_time_limit")
print(json.dumps([settings[name] for name in names if settings.is_set(name)]))
settings["worker_concurrency"] = 5
assert app.conf.worker_concurrency == 5
"""
WRITTEN = {
    "today's": ("", ("worker_concurrency", "accept_content", "task_acks_late", "worker_prefetch_multiplier")),
    "old": ("", ("CELERYD_CONCURRENCY", "CELERY_ACCEPT_CONTENT", "CELERY_ACKS_LATE", "CELERYD_PREFETCH_MULTIPLIER")),
    "with a prefix": (
        "CELERY",
        (
            "CELERY_WORKER_CONCURRENCY",
            "CELERY_ACCEPT_CONTENT",
            "CELERY_TASK_ACKS_LATE",
            "CELERY_WORKER_PREFETCH_MULTIPLIER",
        ),
    ),
}


@pytest.mark.row("CF1", "CF2")
@pytest.mark.parametrize("version", [OLD_WITH_TURBO, BATCHES_WITH_TURBO, CURRENT])
@pytest.mark.parametrize("written", WRITTEN)
def test_settings_have_effect_by_each_of_their_names(version: str, written: str) -> None:
    namespace, names = WRITTEN[written]
    source = dict(zip(names, (3, ["pickle", "json"], True, 1), strict=True))
    printed = celery_producer(version, SCRIPT, json.dumps(source), namespace, env={"PYTHONPATH": str(ROOT)})
    assert json.loads(printed) == [3, ["pickle", "json"], True, 1, 60]
