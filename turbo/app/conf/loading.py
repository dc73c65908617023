"""Imports modules and objects by name: configurations, task modules, classes.

Runs in every process that has an app, before the worker's processes are forked. No other module of the app imports by
name.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType


def working_directory() -> Path | None:
    """Return the current directory, or None if it was deleted."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None


def import_module(name: str) -> ModuleType:
    """Import ``name`` with the current directory first, as ``python -m`` does."""
    directory = working_directory()
    here = str(directory)
    if directory is None or here in sys.path or "" in sys.path:
        return importlib.import_module(name)
    sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    finally:
        if here in sys.path:
            sys.path.remove(here)


def import_symbol(path: str) -> Any:
    """Return the object at ``module:attribute``, ``module`` or ``module.attribute``.

    Raises ImportError or AttributeError when it does not exist.
    """
    if ":" in path:
        module, _, attribute = path.partition(":")
        found: Any = import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
        return found
    try:
        return import_module(path)
    except ModuleNotFoundError as exc:
        module, _, attribute = path.rpartition(".")
        # A module that exists but fails to import something else: raise its own error.
        if not module or not (exc.name and (path == exc.name or path.startswith(exc.name + "."))):
            raise
        return getattr(import_module(module), attribute)


def resolve(value: Any) -> Any:
    """Return the object that ``value`` names if it is a string, otherwise ``value``."""
    return import_symbol(value) if isinstance(value, str) else value


def import_related(packages: Iterable[str], related_name: str | None) -> list[ModuleType]:
    """Import ``<package>.<related_name>`` of each package that has such a module.

    Without ``related_name``, imports the packages themselves. An entry ``package.ClassName`` stands for ``package``.
    A module that exists but fails to import raises its error.
    """
    found = []
    for entry in packages:
        try:
            package = import_module(entry).__name__
        except ModuleNotFoundError as exc:
            package = entry.rpartition(".")[0]
            if not package or exc.name != entry:
                raise
        if not related_name:
            found.append(import_module(package))
            continue
        name = f"{package}.{related_name}"
        try:
            found.append(import_module(name))
        except ModuleNotFoundError as exc:
            if exc.name != name:
                raise
    return found
