"""The compatibility page claims nothing that no test shows, and no test shows what the page does not list."""

from __future__ import annotations

import pytest

from scripts import compatibility


def test_the_page_and_the_tests_agree() -> None:
    assert compatibility.problems() == []


def test_the_page_lists_every_group() -> None:
    rows = compatibility.rows()
    groups = {row.id[:2] for row in rows}
    assert len(rows) > 500
    assert {"WP", "CA", "TD", "EX", "ST", "RT", "PL", "CN", "TM", "LG", "CF", "CL"} <= groups


@pytest.mark.parametrize(
    ("status", "tests", "after"),
    [
        ("not yet", ["tests/integration/test_a.py::test_b"], "yes"),
        ("not yet", ["tests/unit/test_a.py::test_b"], compatibility.PARTS_ONLY),
        ("yes", ["tests/unit/test_a.py::test_b"], compatibility.PARTS_ONLY),
        (compatibility.PARTS_ONLY, ["tests/unit/a.py::b", "tests/compat/a.py::b"], "yes"),
        ("yes", [], "not yet"),
        ("not yet: half of it", ["tests/unit/test_a.py::test_b"], "not yet: half of it"),
        ("differs: never lower", ["tests/unit/test_a.py::test_b"], "differs: never lower"),
    ],
)
def test_how_a_status_changes(status: str, tests: list[str], after: str) -> None:
    row = compatibility.Row("CN8", "feature", status, ())
    assert compatibility.updated(row, tests).status == after


def test_what_a_client_does_is_shown_by_unit_tests() -> None:
    row = compatibility.Row("CA8", "feature", "not yet", ())
    assert compatibility.updated(row, ["tests/unit/test_a.py::test_b"]).status == "yes"


def test_a_row_survives_being_written() -> None:
    for status in ("yes", "not yet", "differs: never lower: see below", compatibility.PARTS_ONLY):
        row = compatibility.Row("CN8", "feature", status, ())
        assert compatibility.parse(row.line()) == row


def test_its_tests_are_named_in_the_appendix_alone() -> None:
    row = compatibility.Row("CN8", "feature", "yes", ("tests/a.py::b", "tests/c.py::d"))
    assert row.tests_line() == "| CN8 | `tests/a.py::b`<br>`tests/c.py::d` |"
    assert row.line() == "| CN8 | feature | yes | |"


def test_whole_workers_are_named_before_parts() -> None:
    row = compatibility.Row("CN8", "feature", "yes", ())
    tests = ["tests/unit/a.py::b", "tests/process/a.py::b", "tests/scenarios/a.py::b", "tests/compat/a.py::b"]
    assert compatibility.updated(row, tests).tests == tuple(reversed(tests[1:]))
