"""The house style that no linter checks: budgets, docstrings, names, where things may be done.

Reads the sources as text and syntax trees; imports none of them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "turbo"
SOURCES = sorted(PACKAGE.rglob("*.py"))

MODULE_LINES = 400
#: Modules that are one idea and longer, each with the idea: the cap is a thermometer, not a law.
LONG_MODULES: dict[str, str] = {}
CLASS_LINES = 250
FUNCTION_LINES = 50
HOT_FUNCTION_LINES = 120
HOT = "# hot:"
#: Characters of the first line of a docstring, which says what the thing does or is.
DOCSTRING_LINE = 80
#: Where a forgotten leftover would go. ``app/base.py`` and what is in ``utils`` are Celery's public paths.
BANNED_NAMES = frozenset({"base", "common", "core", "helper", "helpers", "misc", "tools", "util", "utils"})
CELERY_PATHS = frozenset({"app/base.py", "utils/__init__.py", "utils/log.py", "utils/nodenames.py"})
SHIM_LINES = 12
#: Every Linux has these, and the features that read them have no other source.
SYSTEM_PATHS = ("/proc", "/sys/fs/cgroup", "/dev/null", "/dev/shm")
ABSOLUTE_PATH = re.compile(r"^/(?:bin|dev|etc|home|lib|mnt|opt|proc|root|run|srv|sys|tmp|usr|var)(?:/|$)")


def relative(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


@cache
def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines()


@cache
def nodes_of(path: Path) -> list[ast.AST]:
    return list(ast.walk(tree_of(path)))


def length(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    return (node.end_lineno or node.lineno) - first + 1


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in nodes_of(path):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def is_hot(path: Path, node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """A hot function says so on the line above it or within itself, naming the bench that needs it."""
    text = lines_of(path)[max(node.lineno - 2, 0) : node.end_lineno]
    return any(HOT in line for line in text)


def strings_that_are_data(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every string constant that is not a docstring."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.lineno, node.value


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return ["." * node.level + (node.module or "")]
    return []


def is_first_party(name: str) -> bool:
    return name.startswith(".") or name.split(".")[0] == "turbo"


def test_there_is_something_to_check() -> None:
    assert len(SOURCES) > 10


def has_a_docstring(path: Path) -> list[str]:
    doc = ast.get_docstring(tree_of(path))
    return [] if doc and len(doc) > 15 else ["say what it is, where it stands in the data's way, and who runs it"]


def begins_its_docstrings_with_a_short_line(path: Path) -> list[str]:
    return [
        f"{getattr(node, 'name', 'the module')}: the first line of its docstring has {len(first)} characters"
        for node in nodes_of(path)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        for first in (ast.get_docstring(node) or "").splitlines()[:1]
        if len(first) > DOCSTRING_LINE
    ]


def is_not_too_long(path: Path) -> list[str]:
    count = len(lines_of(path))
    if relative(path) in LONG_MODULES:
        return [] if count > MODULE_LINES else [f"{count} lines need no exception: take it out of LONG_MODULES"]
    return [] if count <= MODULE_LINES else [f"{count} lines: split it, or say in LONG_MODULES which one idea it is"]


def has_a_name_of_its_own(path: Path) -> list[str]:
    if relative(path) in CELERY_PATHS:
        short = relative(path) == "app/base.py" or len(lines_of(path)) <= SHIM_LINES
        return [] if short else ["more than a shim"]
    return sorted({path.stem, *path.relative_to(PACKAGE).parent.parts} & BANNED_NAMES)


def keeps_its_budgets(path: Path) -> list[str]:
    over = [
        f"class {node.name}: {length(node)} lines"
        for node in nodes_of(path)
        if isinstance(node, ast.ClassDef) and length(node) > CLASS_LINES
    ]
    for node in functions(path):
        budget = HOT_FUNCTION_LINES if is_hot(path, node) else FUNCTION_LINES
        if length(node) > budget:
            over.append(f"{node.name}, line {node.lineno}: {length(node)} lines, {budget} allowed")
    return over


def imports_its_own_package_at_the_top_only(path: Path) -> list[str]:
    return [
        f"line {node.lineno}: {name}"
        for function in functions(path)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in imported(node)
        if is_first_party(name)
    ]


def swallows_nothing(path: Path) -> list[str]:
    swallowed = []
    for node in nodes_of(path):
        if not isinstance(node, ast.ExceptHandler):
            continue
        broad = node.type is None or (
            isinstance(node.type, ast.Name) and node.type.id in {"Exception", "BaseException"}
        )
        silent = all(isinstance(child, ast.Pass | ast.Continue) for child in node.body)
        if node.type is None or (broad and silent):
            swallowed.append(f"line {node.lineno}")
    return swallowed


def holds_no_absolute_path(path: Path) -> list[str]:
    return [
        f"line {line}: {text!r}"
        for line, text in strings_that_are_data(tree_of(path))
        if ABSOLUTE_PATH.match(text) and not text.startswith(SYSTEM_PATHS)
    ]


def leaves_pika_to_those_who_speak_amqp(path: Path) -> list[str]:
    if relative(path).startswith(("amqp/", "embedded_broker/")):
        return []
    return [name for node in nodes_of(path) for name in imported(node) if name.split(".")[0] == "pika"]


def assigns_no_foreign_private_field(path: Path) -> list[str]:
    """Writing ``self.other._field`` makes two owners of it."""
    return [
        f"line {target.lineno}: {ast.unparse(target)}"
        for node in nodes_of(path)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Attribute) and target.attr.startswith("_") and isinstance(target.value, ast.Attribute)
    ]


#: What holds for each module: a rule names what is wrong with one.
RULES = (
    has_a_docstring,
    begins_its_docstrings_with_a_short_line,
    is_not_too_long,
    has_a_name_of_its_own,
    keeps_its_budgets,
    imports_its_own_package_at_the_top_only,
    swallows_nothing,
    holds_no_absolute_path,
    leaves_pika_to_those_who_speak_amqp,
    assigns_no_foreign_private_field,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_module(rule: Callable[[Path], list[str]]) -> None:
    faults = [f"turbo/{relative(path)}: {fault}" for path in SOURCES for fault in rule(path)]
    assert not faults, "\n".join(faults)


def test_fork_appears_once() -> None:
    """One place that forks can be reasoned about: signals blocked, ``os._exit`` at the end."""
    forks = [
        f"{relative(path)}:{node.lineno}"
        for path in SOURCES
        for node in nodes_of(path)
        if isinstance(node, ast.Attribute)
        and node.attr in {"fork", "forkpty"}
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
    ]
    assert len(forks) <= 1, forks
    assert all(place.startswith("spawner/") for place in forks)


def test_multiprocessing_is_not_used() -> None:
    """Its locks stay locked when a holder is killed, and its start methods would fork in a second place."""
    found = [
        f"{relative(path)}:{node.lineno}"
        for path in SOURCES
        for node in nodes_of(path)
        for name in imported(node)
        if name.split(".")[0] == "multiprocessing" or name == "concurrent.futures.process"
    ]
    assert not found


def test_long_modules_exist() -> None:
    assert [name for name in LONG_MODULES if not (PACKAGE / name).exists()] == []
