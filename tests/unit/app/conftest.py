"""Restores the process's current app and publisher after every test of the app."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.app.recording import Recorder, make_app, recording
from turbo import current
from turbo.app.base import Turbo


@pytest.fixture(autouse=True)
def clean_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND", "CELERY_CONFIG_MODULE", "CELERY_BROKER_READ_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(current, "_finalizers", [])
    monkeypatch.setattr(current, "_default_app", None)
    monkeypatch.setattr(current._apps, "app", None)
    yield


@pytest.fixture
def app() -> Turbo:
    return make_app()


@pytest.fixture
def sent() -> Iterator[Recorder]:
    with recording() as recorder:
        yield recorder
