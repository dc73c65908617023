"""The generated pages are current, and the written ones agree with the code they describe."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from bench import report
from bench.goals import FAR_GOALS, GOALS, run_of
from bench.results import latest
from scripts import settings_page
from turbo.app.conf.extras import _OF_SERIALIZERS, _OF_STORES
from turbo.policy.finishing import CHILD_DEATH, FINISHING
from turbo.policy.settling import AckOptions, Ending, Verb, settle

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]

#: How the table of docs/architecture.md names each ending.
ENDINGS = {
    "returned": Ending.SUCCESS,
    "raised": Ending.FAILURE,
    "sent what the broker refuses": Ending.FAILURE,
    "gave a result that the store refuses": Ending.FAILURE,
    "asked for a retry": Ending.RETRY,
    "raised Ignore": Ending.IGNORE,
    "raised Reject": Ending.REJECT,
    "raised Reject with requeue": Ending.REJECT_REQUEUE,
    "ran into its hard limit": Ending.TIMEOUT,
    "its child died": Ending.WORKER_LOST,
    "had expired": Ending.REVOKED,
    "is not known here": Ending.UNKNOWN_TASK,
    "is a message that is no task, or a broken one": Ending.INVALID,
    "cannot be decoded": Ending.UNDECODABLE,
}
OPTION = re.compile(r"`(\w+)=(True|False)`: (\w+)")


def settling_table() -> dict[str, list[str]]:
    text = (ROOT / "docs" / "architecture.md").read_text()
    section = text.split("## When a message is settled")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return {row[0]: row[1:] for row in rows[2:]}


def verb(name: str) -> Verb:
    return Verb[name.upper()]


def test_the_settings_page_is_current() -> None:
    assert settings_page.PAGE.read_text() == settings_page.page(), "run scripts/settings_page.py"


def test_the_page_of_benchmarks_is_current(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    plots = {path.name: path.read_text() for path in report.write_report(ROOT / "bench" / "results", page)[1:]}
    assert page.read_text() == report.PAGE.read_text(), "run python -m bench report"
    assert plots == {path.name: path.read_text() for path in (ROOT / "docs" / "benchmarks").iterdir()}


def test_every_goal_is_measured_and_has_its_section() -> None:
    sections = set(re.findall(r"`python -m bench (\S+)`, variant `(\S+)`", report.PAGE.read_text()))
    runs = report.current(latest())
    for goal in (*GOALS, *FAR_GOALS):
        run = run_of(runs, goal.bench, goal.variant)
        assert run is not None, f"{goal.what}: not measured"
        assert (run.bench, run.variant) in sections


def test_every_ending_is_in_the_table() -> None:
    assert settling_table().keys() == ENDINGS.keys()
    assert set(ENDINGS.values()) == set(Ending)


@pytest.mark.parametrize("named", ENDINGS)
def test_the_table_of_settlements_is_what_the_code_does(named: str) -> None:
    early, late, option, _ = settling_table()[named]
    ending = ENDINGS[named]
    assert settle(ending, AckOptions(acks_late=False)) is verb(early)
    assert settle(ending, AckOptions(acks_late=True)) is verb(late)
    found = OPTION.search(option)
    if found is not None:
        given = {found[1]: found[2] == "True"}
        assert settle(ending, AckOptions(acks_late=True, **given)) is verb(found[3])


def test_the_tables_of_finishing_are_those_of_the_code() -> None:
    text = (ROOT / "docs" / "internals.md").read_text()
    section = text.split("## How a delivery is finished")[1].split("\n## ")[0]
    found = [line for line in section.splitlines() if line.startswith("| ")]
    steps = [f"| {row.step.value} | {row.reason} |" for row in FINISHING]
    fates = [f"| {row.fate.value} | {row.reason} |" for row in CHILD_DEATH]
    assert found == ["| next step | because |", *steps, "| fate | because |", *fates]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_modules_that_pages_name_exist(page: Path) -> None:
    """``master/delivery/dispatcher.py`` and the like, in pages that describe the code."""
    named = re.findall(r"`(?:turbo/)?([a-z_]+/[a-z_/]+\.py)`", page.read_text())
    places = [ROOT, ROOT / "turbo"]
    assert [name for name in named if not any((place / name).exists() for place in places)] == []


def test_every_dependency_is_explained() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        wanted += extra
    text = (ROOT / "docs" / "dependencies.md").read_text().lower()
    names = {re.split(r"[\[<>=;]", each)[0].lower() for each in wanted} - {"turbo-worker"}
    missing = [name for name in sorted(names) if name not in text and not name.startswith("types-")]
    assert missing == []


def test_every_extra_that_is_named_exists() -> None:
    """In ``turbo-worker[redis]`` and the like, wherever a person reads it, and in what a missing package asks for."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"].keys()
    readable = [ROOT / "README.md", ROOT / "pyproject.toml", *PAGES, *(ROOT / "turbo").rglob("*.py")]
    named = {
        name.strip()
        for path in readable
        for listed in re.findall(r"turbo-worker\[([a-z, ]+)\]", path.read_text())
        for name in listed.split(",")
    }
    assert named
    named |= {extra for *_, extra in (*_OF_SERIALIZERS.values(), *_OF_STORES.values())}
    assert named - extras == set()


def test_every_path_that_contributing_names_exists() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = set(re.findall(r"(?<![\w/.~-])((?:turbo|tests|docs|scripts|bench|examples)/[\w./-]*[\w/])", text))
    assert len(named) > 40
    assert sorted(name for name in named if not (ROOT / name).exists()) == []
