"""The house style that no linter checks: budgets, docstrings, names, where things may be done.

Reads the sources as text and syntax trees; imports none of them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "turbo"
SOURCES = sorted(PACKAGE.rglob("*.py"))

MODULE_LINES = 400
CLASS_LINES = 250
FUNCTION_LINES = 50
HOT_FUNCTION_LINES = 120
HOT = "# hot:"
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


def length(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    return (node.end_lineno or node.lineno) - first + 1


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree_of(path)):
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


@pytest.mark.parametrize("path", SOURCES, ids=relative)
class TestModule:
    def test_has_a_docstring(self, path: Path) -> None:
        doc = ast.get_docstring(tree_of(path))
        assert doc and len(doc) > 15, "say what it is, where it stands in the data's way, and who runs it"

    def test_is_not_too_long(self, path: Path) -> None:
        assert len(lines_of(path)) <= MODULE_LINES

    def test_has_a_name_of_its_own(self, path: Path) -> None:
        if relative(path) in CELERY_PATHS:
            assert relative(path) == "app/base.py" or len(lines_of(path)) <= SHIM_LINES
            return
        names = {path.stem, *path.relative_to(PACKAGE).parent.parts}
        assert not names & BANNED_NAMES

    def test_classes_and_functions_keep_their_budgets(self, path: Path) -> None:
        over = [
            f"class {node.name}: {length(node)} lines"
            for node in ast.walk(tree_of(path))
            if isinstance(node, ast.ClassDef) and length(node) > CLASS_LINES
        ]
        for node in functions(path):
            budget = HOT_FUNCTION_LINES if is_hot(path, node) else FUNCTION_LINES
            if length(node) > budget:
                over.append(f"{node.name}, line {node.lineno}: {length(node)} lines, {budget} allowed")
        assert not over

    def test_imports_its_own_package_at_the_top_only(self, path: Path) -> None:
        lazy = [
            f"line {node.lineno}: {name}"
            for function in functions(path)
            for node in ast.walk(function)
            for name in imported(node)
            if is_first_party(name)
        ]
        assert not lazy

    def test_swallows_nothing(self, path: Path) -> None:
        swallowed = []
        for node in ast.walk(tree_of(path)):
            if not isinstance(node, ast.ExceptHandler):
                continue
            broad = node.type is None or (
                isinstance(node.type, ast.Name) and node.type.id in {"Exception", "BaseException"}
            )
            silent = all(isinstance(child, ast.Pass | ast.Continue) for child in node.body)
            if node.type is None or (broad and silent):
                swallowed.append(node.lineno)
        assert not swallowed

    def test_holds_no_absolute_path(self, path: Path) -> None:
        found = [
            f"line {line}: {text!r}"
            for line, text in strings_that_are_data(tree_of(path))
            if ABSOLUTE_PATH.match(text) and not text.startswith(SYSTEM_PATHS)
        ]
        assert not found

    def test_leaves_pika_to_those_who_speak_amqp(self, path: Path) -> None:
        if relative(path).startswith(("amqp/", "embedded_broker/")):
            return
        found = [name for node in ast.walk(tree_of(path)) for name in imported(node) if name.split(".")[0] == "pika"]
        assert not found

    def test_assigns_no_foreign_private_field(self, path: Path) -> None:
        """Writing ``self.other._field`` makes two owners of it."""
        found = [
            f"line {target.lineno}: {ast.unparse(target)}"
            for node in ast.walk(tree_of(path))
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Attribute)
            and target.attr.startswith("_")
            and isinstance(target.value, ast.Attribute)
        ]
        assert not found


def test_fork_appears_once() -> None:
    """One place that forks can be reasoned about: signals blocked, ``os._exit`` at the end."""
    forks = [
        f"{relative(path)}:{node.lineno}"
        for path in SOURCES
        for node in ast.walk(tree_of(path))
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
        for node in ast.walk(tree_of(path))
        for name in imported(node)
        if name.split(".")[0] == "multiprocessing" or name == "concurrent.futures.process"
    ]
    assert not found
