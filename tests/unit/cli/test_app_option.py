"""Finding the app: the order, the forms, and what is said when there is none."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from turbo.cli.app_option import AppNotFoundError, find_app

APP = "from turbo import Turbo\n{name} = Turbo({main!r}, set_as_current=False)\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty directory to find apps in; what a test imports from it is forgotten afterwards."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    before = dict(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - set(before):
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def write(path: Path, main: str, name: str = "app") -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(APP.format(name=name, main=main))


def found(project: Path, given: str | None = None, **environ: str) -> tuple[str | None, str, str]:
    result = find_app(given, environ, project)
    return result.app.main, result.where, result.because


@pytest.mark.row("CL2")
def test_the_order_of_places(project: Path) -> None:
    write(project / "cli_given.py", "given")
    write(project / "turbo_env.py", "turbo_env")
    write(project / "celery_env.py", "celery_env")
    write(project / "named_in_toml.py", "toml")
    write(project / "tasks.py", "tasks")
    (project / "pyproject.toml").write_text("[tool.turbo]\napp = 'named_in_toml:app'\n")
    both = {"TURBO_APP": "turbo_env", "CELERY_APP": "celery_env"}
    assert found(project, "cli_given", **both) == ("given", "cli_given:app", "from -A")
    assert found(project, None, **both) == ("turbo_env", "turbo_env:app", "from TURBO_APP")
    assert found(project, CELERY_APP="celery_env") == ("celery_env", "celery_env:app", "from CELERY_APP")
    assert found(project) == ("toml", "named_in_toml:app", "from [tool.turbo] in pyproject.toml")
    (project / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert found(project) == ("tasks", "tasks:app", "tasks.py in this directory")


@pytest.mark.row("CL2")
def test_tasks_come_before_app(project: Path) -> None:
    write(project / "app.py", "app")
    assert found(project)[2] == "app.py in this directory"
    write(project / "tasks.py", "tasks")
    assert found(project)[2] == "tasks.py in this directory"


@pytest.mark.row("CL2")
def test_a_package_with_celery_in_it(project: Path) -> None:
    write(project / "shop" / "celery.py", "shop", name="celery")
    (project / "shop" / "__init__.py").touch()
    assert found(project) == ("shop", "shop.celery:celery", "shop/celery.py in this directory")
    assert found(project, "shop")[1] == "shop.celery:celery"


@pytest.mark.row("CL2")
@pytest.mark.parametrize("given", ["forms", "forms:mine", "forms.mine"])
def test_the_forms_of_the_option(project: Path, given: str) -> None:
    write(project / "forms.py", "forms", name="mine")
    assert found(project, given)[0] == "forms"


def test_nothing_found_says_where_it_looked(project: Path) -> None:
    with pytest.raises(AppNotFoundError) as caught:
        found(project)
    text = str(caught.value)
    for place in (
        "-A",
        "TURBO_APP",
        "CELERY_APP",
        "pyproject.toml",
        "celery.py, tasks.py, app.py",
        str(project),
    ):
        assert place in text


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("nowhere_at_all", "no module 'nowhere_at_all'"),
        ("forms:nothing", "no attribute 'nothing'"),
        ("forms:Turbo", "is no turbo.Turbo"),
        ("empty_module", "no app in empty_module"),
    ],
)
def test_what_was_named_is_no_app(project: Path, given: str, says: str) -> None:
    write(project / "forms.py", "forms")
    (project / "empty_module.py").touch()
    with pytest.raises(AppNotFoundError, match=says):
        found(project, given)


def test_an_import_that_fails_inside_the_module_is_not_hidden(project: Path) -> None:
    (project / "broken.py").write_text("import a_module_that_is_not_there\n")
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_not_there"):
        found(project, "broken")


def test_celerys_own_app_is_refused_with_the_way_out(project: Path) -> None:
    (project / "theirs.py").write_text("from celery import Celery\napp = Celery('x', set_as_current=False)\n")
    with pytest.raises(AppNotFoundError, match="from turbo import Celery"):
        found(project, "theirs")


def test_a_pyproject_that_does_not_parse_is_reported(project: Path) -> None:
    (project / "pyproject.toml").write_text("[tool.turbo\n")
    with pytest.raises(AppNotFoundError, match="not readable"):
        found(project)
