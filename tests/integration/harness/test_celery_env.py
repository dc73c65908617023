"""Environments of older Celerys: built without the caller's packages, and taken only when they are whole."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest

from tests.harness import celery_env
from tests.harness.processes import HarnessError

#: Small, and already with this Python: the environment seems to have it unless PYTHONPATH is left out.
REQUIREMENT = "click"


class Builder:
    """Stands for venv and pip, which need half a minute: makes an environment, and copies into it when ``brings``."""

    def __init__(self) -> None:
        self.brings = False
        self.commands: list[list[str]] = []

    def __call__(self, place: Path, command: list[str]) -> None:
        self.commands.append(command)
        if "venv" in command:
            subprocess.run([*command[:-1], "--without-pip", command[-1]], check=True)
        elif self.brings:
            (target,) = place.glob("lib/*/site-packages")
            for file in distribution(REQUIREMENT).files or ():
                if ".." not in file.parts:
                    (target / file).parent.mkdir(exist_ok=True, parents=True)
                    shutil.copyfile(file.locate(), target / file)


@pytest.fixture
def builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Builder]:
    """An empty cache, and a caller whose PYTHONPATH has everything."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", ":".join(path for path in sys.path if path.endswith("site-packages")))
    monkeypatch.setenv("PIP_TARGET", str(tmp_path / "elsewhere"))
    monkeypatch.setattr(celery_env, "_CHECK", celery_env._CHECK.replace("import celery", f"import {REQUIREMENT}"))
    monkeypatch.setattr(celery_env, "_PINS", {"small": (f"{REQUIREMENT}>=8",)})
    monkeypatch.setattr(celery_env, "_run", stand_in := Builder())
    celery_env._cached.cache_clear()
    yield stand_in
    celery_env._cached.cache_clear()


def test_the_callers_packages_do_not_make_an_environment_complete(builder: Builder, tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(HarnessError, match=rf"{tmp_path}/turbo-tests/celery-small-py3\S+ is not complete.*click"):
            celery_env.celery_python("small")
    builder.brings = True
    place = celery_env.celery_python("small").parents[1]
    where = f"import {REQUIREMENT}; print({REQUIREMENT}.__file__)"
    assert celery_env.celery_producer("small", where).startswith(str(place))
    assert all("-I" in command for command in builder.commands)
    assert not {"PYTHONPATH", "PIP_TARGET"} & celery_env.own_environment().keys()


def test_an_environment_that_has_lost_something_is_built_again(builder: Builder) -> None:
    builder.brings = True
    python = celery_env.celery_python("small")
    built = len(builder.commands)
    celery_env._cached.cache_clear()
    assert celery_env.celery_python("small") == python
    assert len(builder.commands) == built
    (module,) = python.parents[1].glob(f"lib/*/site-packages/{REQUIREMENT}/core.py")
    module.unlink()
    celery_env._cached.cache_clear()
    assert celery_env.celery_python("small") == python
    assert module.exists()


def test_a_command_that_fails_names_the_folder(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=rf"(?s){tmp_path} could not be built.*no such package"):
        celery_env._run(tmp_path, [sys.executable, "-c", "raise SystemExit('no such package')"])
