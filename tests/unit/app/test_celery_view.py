"""The app of Celery's class that stands for one of turbo's own in Celery's command line and in Flower."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from celery import _state

from turbo import Turbo
from turbo.app.celery_view import celery_view


@pytest.fixture(autouse=True)
def _current() -> Iterator[None]:
    """A view becomes Celery's current app."""
    before = _state._tls.current_app
    yield
    _state._set_current_app(before)


@pytest.fixture
def app() -> Turbo:
    made = Turbo("viewed", broker="amqp://", set_as_current=False)

    @made.task(name="viewed.add", priority=3, time_limit=60, queue="sums")
    def add(x: int, y: int) -> int:
        return x + y

    return made


@pytest.mark.row("EC4", "RC32")
def test_it_sends_the_apps_tasks_as_the_app_does(app: Turbo) -> None:
    view = celery_view(app)
    task = view.tasks["viewed.add"]
    assert (task.priority, task.time_limit, task.queue) == (3, 60, "sums")
    assert not task.typing, "the worker checks the arguments"
    with pytest.raises(NotImplementedError):
        task.run()


@pytest.mark.row("EC4")
def test_it_imports_modules_when_celery_would(app: Turbo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "viewed_more.py").write_text(
        "from viewed_app import app\n@app.task(name='viewed.more')\ndef more(): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "viewed_app", SimpleNamespace(app=app))
    app.conf.include = ["viewed_more"]
    view = celery_view(app)
    assert "viewed.add" in view.tasks
    assert "viewed_more" not in sys.modules, "a probe imports no task"
    view.loader.import_default_modules()
    monkeypatch.delitem(sys.modules, "viewed_more")
    assert "viewed.more" in view.tasks


@pytest.mark.row("EC4")
def test_it_says_what_cannot_be_imported(app: Turbo) -> None:
    app.conf.imports = ["no_such_module_of_tasks"]
    with pytest.raises(ModuleNotFoundError, match="no_such_module_of_tasks"):
        celery_view(app).loader.import_default_modules()
