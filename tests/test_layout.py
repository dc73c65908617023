"""The layout: unit tests have the names of their modules, and modules that import each other are listed.

Exceptions are listed here with the reason.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "turbo"

#: Folders whose modules have unit tests of their own names: ``master/window.py`` has ``unit/master/test_window.py``.
MIRRORED = ("child", "master", "policy", "protocol", "ring")
#: Test file: why it tests modules that have no unit test of their own name, and which.
TESTED_ELSEWHERE = {
    "unit/policy/test_delivery_lifecycle.py": ("both tables keep the same rules", "policy/child_lifecycle"),
    "unit/cli/test_worker_settings.py": ("fields without rules, filled from settings", "policy/worker_options"),
    "unit/protocol/test_pidbox.py": ("small parts of control messages", "protocol/clock protocol/event"),
    "unit/protocol/test_peek.py": ("peek reads what building writes", "protocol/building"),
    "unit/protocol/test_message.py": (
        "fields are checked as messages are parsed", "protocol/message_errors protocol/message_fields",
    ),
    "unit/protocol/test_totality.py": ("any bytes, through every parser", "protocol/deliver"),
    "integration/control/test_serializers.py": ("needs kombu", "protocol/kombu_registry"),
    "unit/ring/test_ring_model.py": (
        "both ends of both rings against one model",
        "ring/layout ring/link ring/master_link ring/memory ring/outcome_ring ring/task_ring",
    ),
    "unit/master/delivery/test_ledger.py": (
        "one state machine over the real parts of a delivery's way",
        "master/delivery/lease_ends"
        " master/delivery/revoked_tasks master/delivery/waiting_places master/outcome/hooks",
    ),
    "unit/master/outcome/test_settlement.py": (
        "documents are stored where they are settled", "master/outcome/interfaces master/outcome/storing",
    ),
    "unit/master/delivery/test_suspects.py": ("suspects are who is recognised", "master/delivery/recognition"),
    "unit/master/delivery/test_revoking.py": ("revoking goes through messages in slices", "master/delivery/slices"),
    "unit/master/children/test_time_limits.py": ("a start has a limit too", "master/children/boot"),
    "unit/master/children/test_ring_access.py": (
        "a child that stops reading", "master/children/child_process master/children/stalled_children",
    ),
    "adversity/leases/test_leases.py": ("a broker that ends leases", "master/delivery/lease_copies"),
    "adversity/leases/test_returns.py": ("messages that the broker returns", "master/delivery/parking"),
    "adversity/lifecycle/test_broker_given_up.py": ("a broker that is away", "master/broker_patience"),
    "adversity/lifecycle/test_shutdown.py": (
        "a whole worker that ends", "master/drain_report master/os_signals master/window",
    ),
    "integration/control/test_pool_restart.py": ("a second process imports the app", "master/children/pool_restart"),
    "integration/worker/test_grown_window.py": ("a free worker gets it", "master/delivery/surplus"),
    "integration/adopted/test_steps.py": (
        "steps run in a whole worker", "master/bootsteps master/consumer_steps master/worker_steps",
    ),
    "integration/worker/test_whole_worker.py": (
        "the wiring of a whole process",
        "master/assembly master/blueprint master/main"
        " child/forked child/leaving child/loop child/main child/options child/plan",
    ),
    "unit/child/test_task_hooks.py": (
        "one executor over real rings",
        "child/documents child/intake child/refusals child/time_limits",
    ),
    "unit/child/test_endings.py": ("one executor over real rings", "child/duplicates"),
    "unit/app/test_own_sending.py": ("follow-ups are sent as calls are", "child/followups"),
    "integration/processes/test_signals_of_tasks.py": ("signals of the system", "child/own_signals"),
}  # fmt: skip
#: Modules that import each other, also for type checkers alone: each circle with the reason why it is one.
CIRCLES = {
    ("app.base", "app.task", "app.task_keeper"): (
        "an app makes tasks and a task has its app: programs and type checkers see each other's class there"
    ),
}


def has_a_unit_test(module: str) -> bool:
    folder, _, name = module.rpartition("/")
    return (ROOT / "tests" / "unit" / folder / f"test_{name}.py").exists()


def test_unit_tests_have_the_names_of_their_modules() -> None:
    """A reader finds the test of a module by its name, or here."""
    modules = {
        path.relative_to(PACKAGE).with_suffix("").as_posix()
        for path in PACKAGE.rglob("*.py")
        if path.stem != "__init__"
    }
    mirrored = {module for module in modules if module.split("/")[0] in MIRRORED}
    listed = [module for _, named in TESTED_ELSEWHERE.values() for module in named.split()]
    without = {module for module in mirrored if not has_a_unit_test(module)}
    assert sorted(without - set(listed)) == [], "give it tests/unit/<folder>/test_<module>.py, or say where its test is"
    assert sorted(set(listed) - without) == [], "is gone, or has a unit test of its own: take it out of the list"
    assert len(listed) == len(set(listed))
    assert [test for test in TESTED_ELSEWHERE if not (ROOT / "tests" / test).exists()] == []


def imported(tree: ast.AST, modules: Mapping[str, object]) -> Iterator[str]:
    """The modules that a module names in its imports, those in functions and for type checkers included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            whole = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name if name in modules else node.module for name in whole)


def import_graph(package: Path) -> dict[str, set[str]]:
    """Each module of a package with the modules of the package that it imports."""
    files = {
        ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for path in package.rglob("*.py")
    }
    return {
        name: {found for found in imported(ast.parse(path.read_text()), files) if found in files and found != name}
        for name, path in files.items()
    }


def circles(graph: Mapping[str, set[str]]) -> list[tuple[str, ...]]:
    """The largest sets of modules in which each reaches each other by imports, in alphabetical order."""
    reached = {module: reachable(graph, module) for module in graph}
    found = {tuple(sorted(other for other in reached[module] if module in reached[other])) for module in graph}
    return sorted(circle for circle in found if circle)


def reachable(graph: Mapping[str, set[str]], start: str) -> set[str]:
    """The modules to which a way of imports leads from ``start``."""
    found: set[str] = set()
    pending = [start]
    while pending:
        new = graph[pending.pop()] - found
        found |= new
        pending += new
    return found


def test_modules_that_import_each_other_are_listed() -> None:
    """A reader can take the modules in one order, each after those that it needs; the exceptions are known."""
    found = [tuple(name.removeprefix("turbo.") for name in circle) for circle in circles(import_graph(PACKAGE))]
    assert found == sorted(CIRCLES), "cut it: move a type, take a Protocol or merge; or list it with the reason"


@pytest.mark.parametrize("back", ["from pack import one", "from pack.one import A", "import pack.one"])
def test_an_import_for_type_checkers_makes_a_circle(tmp_path: Path, back: str) -> None:
    """The check itself: it sees both ways of naming a module, under ``if TYPE_CHECKING`` too."""
    package = tmp_path / "pack"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "one.py").write_text("from pack.two import B\n")
    (package / "two.py").write_text(f"from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    {back}\n")
    (package / "three.py").write_text("from pack import one, two\n")
    assert circles(import_graph(package)) == [("pack.one", "pack.two")]
