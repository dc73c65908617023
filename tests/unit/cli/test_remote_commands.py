"""Command lines of remote control: Celery's arguments in Celery's order, and what is refused."""

from __future__ import annotations

from typing import Any

import click
import pytest
from celery.worker.control import Panel as CelerysPanel

from turbo.cli.remote_commands import COMMANDS, CONTROL, INSPECT, find_command, listing, parse_arguments
from turbo.control.panel import CommandInfo

#: Commands of workers among themselves.
AMONG_WORKERS = {"hello", "election"}
OWN = {"greet": CommandInfo(None, INSPECT, True, 1.0, "Greet.", "[name]", [("name", str)], None)}


@pytest.mark.row("CL27")
def test_celerys_commands_have_celerys_arguments() -> None:
    for name, theirs in CelerysPanel.meta.items():
        if name in AMONG_WORKERS:
            continue
        ours = COMMANDS[name]
        assert (name, ours.type, ours.variadic) == (name, theirs.type, theirs.variadic)
        assert [argument for argument, _ in ours.args or ()] == [argument for argument, _ in theirs.args or ()], name
        assert (ours.signature or None) == theirs.signature, name


@pytest.mark.parametrize(
    ("kind", "name", "words", "arguments"),
    [
        (INSPECT, "ping", [], {}),
        (INSPECT, "conf", ["yes"], {"with_defaults": True}),
        (INSPECT, "query_task", ["a", "b"], {"ids": ["a", "b"]}),
        (CONTROL, "terminate", ["KILL", "a", "b"], {"signal": "KILL", "task_id": ["a", "b"]}),
        (CONTROL, "time_limit", ["proj.add", "1.5"], {"task_name": "proj.add", "soft": 1.5}),
        (CONTROL, "pool_grow", ["3"], {"n": 3}),
        (INSPECT, "greet", ["me"], {"name": "me"}),
    ],
)
def test_arguments_by_name(kind: str, name: str, words: list[str], arguments: dict[str, Any]) -> None:
    assert parse_arguments(name, find_command(kind, name, OWN), words) == arguments


@pytest.mark.parametrize(
    ("kind", "name", "words", "said"),
    [
        (INSPECT, "actve", [], "did you mean 'active'"),
        (INSPECT, "shutdown", [], "`turbo control`"),
        (CONTROL, "ping", [], "`turbo inspect`"),
        (INSPECT, "ping", ["x"], "takes arguments: none"),
        (CONTROL, "pool_grow", ["many"], "pool_grow: n"),
        (INSPECT, "conf", ["perhaps"], "neither true nor false"),
        (CONTROL, "rate_limit", ["proj.add"], "usage: rate_limit <task_name> <rate_limit"),
        (CONTROL, "time_limit", [], "usage: time_limit <task_name> <soft_secs>"),
        (CONTROL, "terminate", [], "usage: terminate <signal>"),
        (CONTROL, "add_consumer", [], "usage: add_consumer <queue>"),
    ],
)
def test_what_is_refused(kind: str, name: str, words: list[str], said: str) -> None:
    with pytest.raises(click.UsageError, match=said.replace("'", ".")):
        parse_arguments(name, find_command(kind, name, {}), words)


def test_the_list_names_the_kinds_commands_and_the_programs_own() -> None:
    text = listing(INSPECT, OWN)
    assert "greet [name]" in text and "active_queues" in text and "shutdown" not in text
