"""The compiled build: what its list names, and that ``turbo report`` says which build runs."""

from __future__ import annotations

import importlib
import runpy
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from turbo.control import report

_ROOT = Path(__file__).resolve().parents[2]
_SETUP = runpy.run_path(str(_ROOT / "setup.py"), run_name="setup")
_MODULES: list[str] = _SETUP["MODULES"]


def test_the_list_names_modules_that_exist_in_order_and_once() -> None:
    assert [module for module in _MODULES if not (_ROOT / "turbo" / f"{module}.py").is_file()] == []
    assert sorted(set(_MODULES)) == sorted(_MODULES)


@pytest.mark.parametrize("module", _MODULES)
def test_all_of_the_list_is_compiled_or_nothing_is(module: str) -> None:
    loaded = importlib.import_module(f"turbo.{module.replace('/', '.')}")
    compiled = str(loaded.__file__).endswith(tuple(EXTENSION_SUFFIXES))
    assert report.build() == ("compiled" if compiled else "pure Python")


def test_the_report_names_the_build_behind_the_version() -> None:
    assert report.describe()[1] == f"build {report.build()}"
