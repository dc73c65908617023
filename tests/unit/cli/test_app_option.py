"""Finding the app: the order, the forms, and what is said when there is none."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from turbo.adopted.app import AdoptedApp
from turbo.cli.app_option import AppNotFoundError, find_app
from turbo.native.app import NativeApp

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
    assert isinstance(result.app, NativeApp)
    return result.app.turbo.main, result.where, result.because


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
        ("forms:Turbo", "is neither a turbo.Turbo nor a celery.Celery"),
        ("forms:app.nothing", "has no attribute 'nothing'"),
        ("forms()", "needs a module"),
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


THEIRS = "from celery import Celery\n{name} = Celery({main!r}, set_as_current=False)\n"
FACTORY = """
from celery import Celery

class Site:
    app = Celery("of_a_site", set_as_current=False)

def create_app():
    return Celery("made", set_as_current=False)

def create_site():
    return Site()

site = Site()
"""


def adopted(project: Path, given: str | None = None) -> tuple[str, str]:
    result = find_app(given, {}, project)
    assert isinstance(result.app, AdoptedApp)
    return result.app.celery.main, result.where


@pytest.mark.row("CL2")
def test_celerys_app_is_found_where_celery_finds_it(project: Path) -> None:
    (project / "theirs.py").write_text(THEIRS.format(name="anything", main="theirs"))
    for given in ("theirs", "theirs:anything", "theirs.anything"):
        assert adopted(project, given)[0] == "theirs"
    (project / "tasks.py").write_text(THEIRS.format(name="celery", main="tasks"))
    assert adopted(project) == ("tasks", "tasks:celery")


@pytest.mark.row("CL2")
def test_a_packages_celery_module_comes_before_what_the_package_has_by_chance(project: Path) -> None:
    (project / "store").mkdir()
    (project / "store" / "__init__.py").write_text(THEIRS.format(name="other", main="by chance"))
    (project / "store" / "celery.py").write_text(THEIRS.format(name="app", main="store"))
    for given in ("store", "store.celery", "store.celery:app", "store.celery.app", "store:celery.app"):
        assert adopted(project, given)[0] == "store"
    assert adopted(project, "store:other")[0] == "by chance"


@pytest.mark.row("CL2")
@pytest.mark.parametrize(
    ("given", "main"),
    [
        ("factory:create_app()", "made"),
        ("factory.create_app()", "made"),
        ("factory:site.app", "of_a_site"),
        ("factory:create_site().app", "of_a_site"),
    ],
)
def test_a_factory_is_called_and_a_path_followed(project: Path, given: str, main: str) -> None:
    (project / "factory.py").write_text(FACTORY)
    assert adopted(project, given) == (main, given)


def test_a_proxy_stands_for_its_app(project: Path) -> None:
    (project / "proxied.py").write_text(
        "from celery import Celery\nfrom celery.local import Proxy\n"
        "_one = [Celery('behind', set_as_current=False)]\napp = Proxy(lambda: _one[0])\n"
    )
    assert adopted(project, "proxied:app")[0] == "behind"


@pytest.mark.parametrize("content", [b"[tool.turbo\n", b"[tool.turbo]\napp = '\xe9'\n"])
def test_a_pyproject_that_does_not_parse_is_reported(project: Path, content: bytes) -> None:
    (project / "pyproject.toml").write_bytes(content)
    with pytest.raises(AppNotFoundError, match="not readable"):
        found(project)
