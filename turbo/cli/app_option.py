"""Finds the app of a command: ``-A``, environment, ``pyproject.toml``, directory.

First step of every command that needs an app. It imports the user's module, in the process that later forks the
spawner, and returns the app together with the reason for its choice.
"""

from __future__ import annotations

import importlib
import os
import sys
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from turbo.app.base import Turbo
from turbo.app.conf.loading import working_directory
from turbo.cli import suggestions
from turbo.exceptions import ImproperlyConfigured
from turbo.native.app import NativeApp

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from turbo.hosting import HostedApp

#: Files that are looked for in the working directory, in this order.
_USUAL: Final = ("celery.py", "tasks.py", "app.py")
_LOOKED_FOR: Final = """no app found. Looked for, in this order:
  -A / --app                          not given
  the environment's TURBO_APP         not set
  the environment's CELERY_APP        not set
  [tool.turbo] app in pyproject.toml  {pyproject}
  celery.py, tasks.py, app.py         not in {here}
  a package with celery.py            not in {here}
Name it: turbo -A package.module:attribute worker"""


class AppNotFoundError(ImproperlyConfigured):
    """No app was found, or the named object is not an app."""


@dataclass(frozen=True, slots=True)
class FoundApp:
    """The app, its location as ``module:attribute``, and how it was found."""

    app: HostedApp
    where: str
    because: str


@dataclass(frozen=True, slots=True)
class _Hint:
    """The specification of an app, and where it comes from."""

    spec: str
    because: str


def find_app(given: Any, environ: Mapping[str, str] = os.environ, here: Path | None = None) -> FoundApp:
    """Find and import the app.

    ``here`` (default: the current directory) is added to ``sys.path``. ``given`` is the value of ``-A``. Raises
    :class:`AppNotFoundError`; an error of the user's module is not caught.
    """
    directory = working_directory() if here is None else here
    if directory is not None and str(directory) not in sys.path:
        sys.path.insert(0, str(directory))
    if given is not None and not isinstance(given, str):
        hint = _Hint(_name_in_modules(given), "of this program")
        return FoundApp(_checked(given, hint.spec, hint), hint.spec, hint.because)
    hint = _hint(given, environ, directory)
    app, where = _load(hint)
    return FoundApp(app, where, hint.because)


def _name_in_modules(app: object) -> str:
    """Return an app's ``module:attribute`` if it has one, else its description."""
    for name, module in list(sys.modules.items()):
        for attribute, value in list(vars(module).items()) if isinstance(module, ModuleType) else ():
            if value is app and name not in ("__main__", "__mp_main__") and not attribute.startswith("_"):
                return f"{name}:{attribute}"
    return repr(app)


def _hint(given: str | None, environ: Mapping[str, str], directory: Path | None) -> _Hint:
    if given:
        return _Hint(given, "from -A")
    for variable in ("TURBO_APP", "CELERY_APP"):
        if environ.get(variable):
            return _Hint(environ[variable], f"from {variable}")
    if directory is None:
        raise AppNotFoundError("no app found: -A names none, and the working directory is gone")
    named, state = _in_pyproject(directory / "pyproject.toml")
    if named:
        return _Hint(named, "from [tool.turbo] in pyproject.toml")
    for name in _USUAL:
        if (directory / name).is_file():
            return _Hint(name.removesuffix(".py"), f"{name} in this directory")
    for package in sorted(path.parent for path in directory.glob("*/celery.py")):
        if package.name.isidentifier():
            return _Hint(f"{package.name}.celery", f"{package.name}/celery.py in this directory")
    raise AppNotFoundError(_LOOKED_FOR.format(pyproject=state, here=directory))


def _in_pyproject(path: Path) -> tuple[str | None, str]:
    """Return the value of ``[tool.turbo] app``, or None.

    The second item is a text for the error message if there is no value.
    """
    import tomllib  # with -A the file is not read

    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None, "no such file"
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        return None, f"not readable: {error}"
    named = table.get("tool", {}).get("turbo", {}).get("app")
    if named is not None and not isinstance(named, str):
        raise AppNotFoundError(f"{path}: [tool.turbo] app must be text such as 'proj.celery:app'")
    return named, "not set"


def _load(hint: _Hint) -> tuple[HostedApp, str]:
    """Import the app for a hint: ``module:attribute``, a module or a package.

    ``module.attribute`` works too. An attribute followed by ``()`` is a factory, which is called. Returns the app and
    its ``module:attribute``.
    """
    name, colon, attribute = hint.spec.partition(":")
    found = _import(name, hint)
    if colon:
        found = _attribute(found, attribute, hint)
    if not isinstance(found, ModuleType):
        return _checked(found, hint.spec, hint), hint.spec
    for owner, attribute, value in _candidates(found):
        where = f"{owner}:{attribute}"
        return _checked(value, where, hint), where
    raise AppNotFoundError(
        f"{hint.spec} ({hint.because}): no app in {found.__name__}. It must contain a turbo.Turbo or a celery.Celery, "
        "usually called app; name another with module:attribute"
    )


def _attribute(owner: Any, path: str, hint: _Hint) -> Any:
    """Return the object at ``path`` of ``owner``: ``app`` or ``create_app()``."""
    found = owner
    for part in path.split("."):
        name = part.removesuffix("()")
        if not hasattr(found, name):
            like = suggestions.hint(name, [each for each in dir(found) if not each.startswith("_")])
            raise AppNotFoundError(f"{hint.spec} ({hint.because}): {_name_of(found)} has no attribute {name!r}{like}")
        found = getattr(found, name)
        if name != part:
            found = found()
    return found


def _name_of(owner: Any) -> str:
    return owner.__name__ if isinstance(owner, ModuleType) else repr(owner)


def _import(name: str, hint: _Hint) -> Any:
    """Import the module ``name``.

    ``name`` may also be an attribute or factory of a module, after a dot.
    """
    parent, dot, attribute = name.rpartition(".")
    if name.endswith("()"):
        if not dot:
            raise AppNotFoundError(f"{hint.spec} ({hint.because}): {name} needs a module; write module:{name}")
        return _attribute(_import(parent, hint), attribute, hint)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
            raise
        if dot and error.name == name:
            module = importlib.import_module(parent)
            if hasattr(module, attribute):
                return getattr(module, attribute)
        where = working_directory() or "the working directory (which no longer exists: change to another one)"
        raise AppNotFoundError(
            f"{hint.spec} ({hint.because}): no module {error.name!r} in {where} or on the import path"
            f"{_like_module(error.name)}"
        ) from None


def _like_module(name: str) -> str:
    """Suggest a module of the working directory for a module's first part."""
    directory = working_directory()
    if directory is None:
        return ""
    try:
        there = [path.stem for path in (*directory.glob("*.py"), *(path.parent for path in directory.glob("*/*.py")))]
    except PermissionError:
        # There is nothing to suggest. The error of the import says more.
        return ""
    return suggestions.hint(name.partition(".")[0], [each for each in there if each.isidentifier()])


def _candidates(module: ModuleType) -> Iterator[tuple[str, str, Any]]:
    """Yield a module's apps with their names, in Celery's order.

    The usual names come first, then the ``celery`` submodule of a package, then everything else.
    """
    for name in ("app", "celery"):
        value = getattr(module, name, None)
        if _is_app(value):
            yield module.__name__, name, value
    if hasattr(module, "__path__"):
        submodule = f"{module.__name__}.celery"
        try:
            yield from _candidates(importlib.import_module(submodule))
        except ModuleNotFoundError as error:
            if error.name != submodule:
                raise
    for name, value in list(vars(module).items()):
        if _is_app(value):
            yield module.__name__, name, value


def _is_app(value: object) -> bool:
    return isinstance(value, Turbo) or _is_celerys(value)


def _is_celerys(value: object) -> bool:
    """Return whether ``value`` is an app of Celery's class, without importing Celery."""
    return any(base.__name__ == "Celery" and base.__module__ == "celery.app.base" for base in type(value).__mro__)


def _unwrapped(value: Any) -> Any:
    """Return the app behind one of Celery's proxies (``celery.current_app``).

    Any other value unchanged.
    """
    if any(base.__module__ == "celery.local" for base in type(value).__mro__):
        return value._get_current_object()  # noqa: SLF001 - a proxy has no other way
    return value


def _checked(found: Any, where: str, hint: _Hint) -> HostedApp:
    value = _unwrapped(found)
    if isinstance(value, Turbo):
        return NativeApp(value)
    if _is_celerys(value):
        return _adopt(value)
    raise AppNotFoundError(f"{where} ({hint.because}) is {value!r}, which is neither a turbo.Turbo nor a celery.Celery")


def _adopt(app: Any) -> HostedApp:
    """Wrap an app of Celery.

    ``turbo.adopted`` is imported here, by name, because it imports Celery, which need not be installed. This is the
    only first-party import that is not at the top of its module.
    """
    adopted: HostedApp = importlib.import_module("turbo.adopted.app").AdoptedApp(app)
    return adopted
