"""Whether there is a Django project, and what an app is in one. Django itself is not set up here."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from turbo import Task, Turbo, signals
from turbo.contrib.django.task import DjangoTask
from turbo.exceptions import FixupWarning
from turbo.fixups import django


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "nobody.imports.this")
    monkeypatch.setattr(sys, "path", list(sys.path))


def app(**options: object) -> Turbo:
    return Turbo("t", set_as_current=False, **options)  # type: ignore[arg-type]


def test_without_the_variable_there_is_no_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE", raising=False)
    assert django.project_of(object()) is None
    made = app()
    assert not issubclass(made.Task, DjangoTask)
    made.autodiscover_tasks(force=True)


@pytest.mark.usefixtures("project")
def test_without_django_there_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.warns(FixupWarning, match="DJANGO_SETTINGS_MODULE"):
        assert django.project_of(object()) is None


@pytest.mark.usefixtures("project")
@pytest.mark.row("DJ7")
def test_tasks_can_be_sent_on_commit_unless_the_app_has_a_class_of_its_own() -> None:
    class Own(Task):
        abstract = True

    class OwnApp(Turbo):
        task_cls = Own

    assert issubclass(app().Task, DjangoTask)
    assert not issubclass(app(task_cls=Own).Task, DjangoTask)
    assert issubclass(OwnApp(set_as_current=False).Task, Own)


@pytest.mark.usefixtures("project")
@pytest.mark.row("DJ1")
def test_the_directory_is_importable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    made = app()
    assert sys.path[0] == str(tmp_path)
    assert made.main == "t"


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("namespace", ["CELERY", None])
def test_the_number_of_tasks_to_a_connection_is_found_under_celerys_name(namespace: str | None) -> None:
    made = app(config_source={"CELERY_DB_REUSE_MAX": 3}, namespace=namespace)
    assert made.conf.get(django.REUSE_MAX) == 3


@pytest.mark.usefixtures("project")
def test_another_apps_worker_is_none_of_its_business() -> None:
    mine, before = app(), len(signals.task_prerun.receivers)

    class Worker:
        app = object()

    signals.worker_init.send(sender=Worker())
    assert len(signals.task_prerun.receivers) == before
    assert mine.main == "t"
