"""``inspect conf`` of a turbo app beside what Celery's own command says of the same configuration."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import celery
import pytest
from celery.worker import control

import turbo
from turbo.native.commands import NativeCommands

NEW: dict[str, Any] = {
    "broker_url": "amqp://guest:secret@here//", "result_backend": "redis://here/1", "task_acks_late": True,
}  # fmt: skip
OLD: dict[str, Any] = {"BROKER_URL": "amqp://here//", "CELERY_ACKS_LATE": True, "CELERY_TASK_SERIALIZER": "json"}


def conf(settings: dict[str, Any], **arguments: Any) -> Any:
    app = turbo.Celery("conf", set_as_current=False)
    app.config_from_object(settings)
    command = NativeCommands(app, "one@here", None).find("conf")
    assert command is not None
    return command(**arguments)


@pytest.mark.row("RC10")
@pytest.mark.parametrize("with_defaults", [False, True])
def test_it_has_every_key_of_celerys(with_defaults: bool) -> None:
    app = celery.Celery("conf", set_as_current=False)
    app.config_from_object(NEW)
    expected = control.conf(SimpleNamespace(app=app), with_defaults=with_defaults)
    found = conf(NEW, with_defaults=with_defaults)
    assert set(expected) <= set(found)
    assert found["deprecated_settings"] is None
    assert "guest:secret" not in repr(found)


def test_settings_by_old_names_are_named() -> None:
    assert conf(OLD)["deprecated_settings"] == sorted(OLD)
