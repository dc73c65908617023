"""Keep docs/compatibility.md and the tests in step.

The page lists behaviours of Celery by id. A test that shows one carries ``@pytest.mark.row("CN8")``. Statuses and
differences are written by hand. This script writes the tests of each row into the appendix docs/compatibility-tests.md,
and turns a bare "not yet" into "yes" once a test shows the row. Unit tests alone do not show what a worker does: such a
row says PARTS_ONLY until a test with a worker or a real server shows it. The script leaves a status with a note alone
("yes: …", "not yet: …", "differs: …", "no: …"; the page has the note in a column of its own).

Usage: ``python scripts/compatibility.py`` writes the page; ``--check`` only says what is wrong with it.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "compatibility.md"
APPENDIX = ROOT / "docs" / "compatibility-tests.md"
TESTS = ROOT / "tests"

ROW = re.compile(r"^\| ([A-Z]{1,2}\d+) \| (.*?) \| (.*?) \|(.*)\|$")
TESTS_ROW = re.compile(r"^\| ([A-Z]{1,2}\d+) \| (.*) \|$")
STATUS = re.compile(r"^(yes|not yet|differs: .+|no: .+|not yet: .+|yes: .+)$")
#: Groups of rows about what a worker does with a message, a child or a broker.
OF_THE_WORKER = frozenset({"WP", "EX", "ST", "SP", "HA", "RT", "PL", "CN", "TM", "RC", "EV", "LG", "CL", "P"})
PARTS_ONLY = "not yet: unit tests show its parts, no test shows a whole worker"
HEAD = """# The tests behind the compatibility page

Written by `python scripts/compatibility.py`: the tests that show each row of [compatibility.md](compatibility.md), at
most three for each. Tests of a whole worker come before unit tests.

| row | shown by |
|---|---|
"""
#: Enough to show a row.
TESTS_NAMED = 3


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the page."""

    id: str
    feature: str
    status: str
    tests: tuple[str, ...]

    @property
    def claims(self) -> bool:
        """Whether it says that turbo does this."""
        return self.status.startswith("yes")

    def line(self) -> str:
        """The line as it stands in the page: the status, and beside it what there is to say."""
        status, _, note = self.status.partition(": ")
        return f"| {self.id} | {self.feature} | {status} | {note} |".replace("|  |", "| |")

    def tests_line(self) -> str:
        """The line as it stands in the appendix."""
        return f"| {self.id} | {'<br>'.join(f'`{test}`' for test in self.tests)} |"


def parse(line: str) -> Row | None:
    """A row of the page, without its tests, or None for any other line."""
    found = ROW.match(line)
    if found is None:
        return None
    # Tests stood in this column once: what a merge brings back of them is no difference.
    note = "" if "`tests/" in found[4] else found[4].strip()
    return Row(found[1], found[2], f"{found[3]}: {note}" if note else found[3], ())


def rows() -> list[Row]:
    """The rows of the page, with the tests that the appendix names."""
    named = {}
    for line in APPENDIX.read_text().splitlines():
        if (found := TESTS_ROW.match(line)) is not None:
            named[found[1]] = tuple(re.findall(r"`([^`]+)`", found[2]))
    read = [row for line in PAGE.read_text().splitlines() if (row := parse(line))]
    return [replace(row, tests=named.get(row.id, ())) for row in read]


def marked_tests() -> dict[str, list[str]]:
    """Row id to the tests that carry it, as ``tests/…/test_x.py::name``."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        where = path.relative_to(ROOT).as_posix()
        for name, ids in _marks(ast.parse(path.read_text())):
            for row in ids:
                found[row].append(f"{where}::{name}" if name else where)
    return found


def _marks(tree: ast.Module) -> Iterator[tuple[str, list[str]]]:
    """Pairs of a test's name (empty for the whole module) and the rows it shows."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "pytestmark" for t in node.targets):
            yield "", list(_ids(node.value))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, [row for decorator in node.decorator_list for row in _ids(decorator)]
        if isinstance(node, ast.ClassDef):
            yield node.name, [row for decorator in node.decorator_list for row in _ids(decorator)]
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
                    name = f"{node.name}::{inner.name}"
                    yield name, [row for decorator in inner.decorator_list for row in _ids(decorator)]


def _ids(node: ast.AST) -> Iterator[str]:
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "row":
            yield from (arg.value for arg in call.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str))


def bare_status(row: str, tests: list[str]) -> str:
    """What these tests show of a row of which there is nothing more to say."""
    if not tests:
        return "not yet"
    if row.rstrip("0123456789") in OF_THE_WORKER and all(test.startswith("tests/unit/") for test in tests):
        return PARTS_ONLY
    return "yes"


def updated(row: Row, tests: list[str]) -> Row:
    """The row with the tests that exist now."""
    status = row.status
    if status in ("yes", "not yet", PARTS_ONLY):
        status = bare_status(row.id, tests)
    # Higher up the way comes first: a real worker shows more than a unit test does.
    order = ("compat", "integration", "ecosystem", "adversity", "scenarios", "guide", "docs", "process", "unit")
    ranked = sorted(
        tests, key=lambda test: next((i for i, at in enumerate(order) if test.startswith(f"tests/{at}/")), 9)
    )
    named = ranked[:TESTS_NAMED]
    return replace(row, status=status, tests=tuple(named))


def problems() -> list[str]:
    """What is wrong with the page as it is."""
    tests = marked_tests()
    listed = rows()
    ids = [row.id for row in listed]
    found = [f"{row} is listed {ids.count(row)} times" for row in sorted(set(ids)) if ids.count(row) > 1]
    found += [f"{row} is marked on {tests[row][0]} and not listed" for row in sorted(set(tests) - set(ids))]
    for row in listed:
        if not STATUS.match(row.status):
            found.append(f"{row.id}: no such status: {row.status!r}")
        found += [f"{row.id}: {test} does not exist or does not carry the row" for test in row.tests
                  if test not in tests.get(row.id, [])]  # fmt: skip
        if row.claims and not row.tests:
            found.append(f"{row.id}: says yes and names no test")
        if row.status in ("yes", "not yet", PARTS_ONLY) and row.status != bare_status(row.id, tests.get(row.id, [])):
            found.append(f"{row.id}: not as its tests show it; run scripts/compatibility.py")
    return found


def write() -> None:
    """Write the page and its appendix anew."""
    tests = marked_tests()
    lines, named = [], []
    for line in PAGE.read_text().splitlines():
        row = parse(line)
        if row is not None:
            row = updated(row, tests.get(row.id, []))
            if row.tests:
                named.append(row.tests_line())
        lines.append(line if row is None else row.line())
    PAGE.write_text("\n".join(lines) + "\n")
    APPENDIX.write_text(HEAD + "\n".join(named) + "\n")


def main(arguments: list[str]) -> int:
    """Run; 1 when the check finds something."""
    if arguments != ["--check"]:
        write()
    found = problems()
    print("\n".join(found) or "the page and the tests agree")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
