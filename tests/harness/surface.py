"""Compares the public names of Celery's package with turbo's, and with the list in docs/compatibility.md.

A name of a module is public if its ``__all__`` has it, or if it is a function, class or fixture of the module's own.
An attribute of a class is public if it has no underscore; instances are compared, so that attributes which constructors
set count.
"""

from __future__ import annotations

import importlib
import inspect
import re
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "compatibility.md"
_LISTED: Final = re.compile(r"^\| `(celery[\w.]*)` \| (`.*`) \| (no|not yet|differs) \| (.+) \|$")


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of the page: names of Celery's that turbo does not have under the same path."""

    owner: str
    names: tuple[str, ...]
    status: str
    reason: str


def listed() -> list[Listed]:
    """The lines of the page."""
    found = (_LISTED.match(line) for line in _PAGE.read_text().splitlines())
    return [Listed(each[1], tuple(re.findall(r"`([^`]+)`", each[2])), each[3], each[4]) for each in found if each]


def missing_from_module(name: str) -> set[str]:
    """The public names of Celery's module that turbo's module does not have, or ``*`` where it does not exist."""
    celerys = importlib.import_module(name)
    own = {key for key, value in vars(celerys).items() if not key.startswith("_") and _belongs_to(value, name)}
    public = own | set(getattr(celerys, "__all__", ()))
    turbos = "turbo" + name.removeprefix("celery")
    try:
        ours = importlib.import_module(turbos)
    except ModuleNotFoundError as error:
        if error.name is None or not turbos.startswith(error.name):
            raise
        return {"*"}
    return {key for key in public if not key.startswith("_") and not hasattr(ours, key)} | {
        f"{key}({fault})"
        for key in own
        if inspect.isfunction(getattr(celerys, key)) and inspect.isfunction(getattr(ours, key, None))
        for fault in refused_arguments(getattr(celerys, key), getattr(ours, key))
    }


def _belongs_to(value: object, module: str) -> bool:
    """Whether this is a function, class or fixture of the module's own. Fixtures do not tell their module."""
    if type(value).__module__ == "_pytest.fixtures":
        return True
    # By the value's own type: a shared task would ask the process's current app, that of any test, for its class.
    return issubclass(type(value), (FunctionType, type)) and value.__module__ == module


def missing_from_class(celerys: Any, ours: Any) -> set[str]:
    """The public attributes of an object of Celery's that turbo's object does not have, and arguments it refuses."""
    public = {name for name in dir(celerys) if not name.startswith("_")}
    faults = public - set(dir(ours))
    for name in public - faults:
        theirs, own = (inspect.getattr_static(type(each), name, None) for each in (celerys, ours))
        if inspect.isfunction(theirs) and inspect.isfunction(own):
            faults |= {f"{name}({fault})" for fault in refused_arguments(theirs, own)}
    return faults


def refused_arguments(theirs: Any, own: Any) -> Iterator[str]:
    """Arguments that Celery's function takes by name and turbo's does not, or that stand at another place.

    These are ``name=``; ``*`` stands for another order of the positional ones.
    """
    wanted = list(inspect.signature(theirs).parameters.values())
    given = list(inspect.signature(own).parameters.values())
    names = {each.name for each in given if each.kind is not each.POSITIONAL_ONLY}
    takes_any = any(each.kind is each.VAR_KEYWORD for each in given)
    for each in wanted:
        if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY) and each.name not in names and not takes_any:
            yield f"{each.name}="
    if any(each.kind is each.VAR_POSITIONAL for each in given):
        return
    order = [each.name for each in given if each.kind is each.POSITIONAL_OR_KEYWORD]
    wished = [each.name for each in wanted if each.kind is each.POSITIONAL_OR_KEYWORD and each.name in order]
    if wished != order[: len(wished)]:
        yield "*"
