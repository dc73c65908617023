"""The operations of ``turbo amqp`` take the arguments of ``celery amqp``."""

from __future__ import annotations

from typing import Any

import click
import pytest
from celery.bin.amqp import amqp as celerys

from turbo.cli.amqp import OPERATIONS, arguments_of, usage, words_of

#: RabbitMQ knows no immediate.
NOT_OURS = {"immediate"}


@pytest.mark.row("CL27")
def test_operations_and_arguments_are_celerys() -> None:
    theirs = {name: [each.name for each in found.params] for name, found in celerys.commands.items() if name != "repl"}
    for name, arguments in theirs.items():
        ours = [argument for argument, _, _ in OPERATIONS[name].arguments]
        assert ours == [each for each in arguments if each not in NOT_OURS and each != "help"], name


@pytest.mark.parametrize(
    ("line", "values"),
    [
        (["queue.declare", "q"], ["q", False, False, False]),
        (["queue.declare", "q", "0", "true"], ["q", False, True, False]),
        (["basic.ack", "3"], [3]),
    ],
)
def test_arguments(line: list[str], values: list[Any]) -> None:
    assert arguments_of(line[0], line[1:]) == values


@pytest.mark.parametrize("line", [["queue.declar", "q"], ["basic.ack"], ["basic.ack", "x"], ["queue.purge", "q", "r"]])
def test_wrong_lines(line: list[str]) -> None:
    with pytest.raises(click.UsageError):
        arguments_of(line[0], line[1:])


def test_usage_names_the_defaults() -> None:
    assert usage("basic.get") == "basic.get queue [no_ack=False]"


def test_a_quote_without_its_end_is_a_wrong_line() -> None:
    with pytest.raises(click.UsageError, match="No closing quotation"):
        words_of("queue.declare 'q\n")
