"""``turbo multi`` makes of a command line the workers that ``celery multi`` makes of it."""

from __future__ import annotations

import io
import shlex
import socket
from pathlib import Path

import pytest
from celery.bin.multi import MultiTool
from click.testing import CliRunner

from turbo.cli.main import turbo as command
from turbo.cli.node_list import nodes, read
from turbo.exceptions import ImproperlyConfigured

#: From Celery's documentation, and what its parser has rules for.
LINES = [
    "show Leslie -E",
    "show 3 -c 3",
    "show 3 --range-prefix=worker -c 3",
    "show image video data -c 3",
    "show 2 --hostname=worker.example.com -c 3",
    "show foo@worker.example.com bar@worker.example.com -c 3",
    "show foo@%h bar@%h",
    "show 10 -l INFO -Q:1-3 images,video -Q:4,5 data -Q default -L:4,5 DEBUG",
    "show 3 -c 3 -c:1 10",
    "show image video data -c 3 -c:image 10",
    "show foo bar baz xuzzy -c 3 -c:foo,bar,baz 10",
    "show foo bar --concurrency=3 --concurrency:2=8 -A proj --workdir=there",
    "show foo bar -c:bar@box.example.com 4 --hostname=box.example.com",
    "show a-b c-d -c:a-b 3",
    "show foo --prefix=pre- --suffix='\"\"' -A proj -b amqp://x// -- worker.prefetch_multiplier=1",
    "show foo bar --append='-Q %n'",
    "names 3",
    "names foo bar@%h --hostname=box",
    "expand %n/%h/%d/%p/%N/%i/%I foo bar",
    "get foo@box foo bar --hostname=box -c:1 2",
]


@pytest.mark.row("EC12", "CL27")
@pytest.mark.parametrize("line", LINES)
def test_the_workers_are_celerys(line: str, tmp_path: Path) -> None:
    words = [*shlex.split(line), f"--pidfile={tmp_path}/%n.pid", f"--logfile={tmp_path}/%n%I.log"]
    if "--" in words:
        words = [*words[:1], *words[-2:], *words[1:-2]]
    ours = CliRunner().invoke(command, ["multi", *words], prog_name="turbo")
    out = io.StringIO()
    code = MultiTool(stdout=out, stderr=out).execute_from_commandline(["celery", *words])
    theirs = out.getvalue().replace("-m celery ", "-m turbo ")
    split = [sorted(shlex.split(each)) for each in (ours.output, theirs)]
    assert (split[0], ours.exit_code) == (split[1], code)


def test_options_of_nodes_that_are_not_there() -> None:
    with pytest.raises(ImproperlyConfigured, match="node 3"):
        nodes(read(["foo", "bar", "-c:3", "1"]), socket.gethostname(), {})
    for words in (["foo", "--cmd=x"], ["foo", "--cmd", "x"]):
        with pytest.raises(ImproperlyConfigured, match="--cmd"):
            nodes(read(words), socket.gethostname(), {})
    as_celerys = nodes(read(["foo", "--cmd=-m celery worker --detach"]), socket.gethostname(), {})
    assert "--cmd" not in as_celerys[0].options


def test_an_invalid_command_gets_a_suggestion_and_the_usage() -> None:
    wrong = CliRunner().invoke(command, ["multi", "strat", "w1"], prog_name="turbo")
    assert wrong.exit_code == 1
    assert "did you mean 'start'?" in wrong.output and "usage: turbo multi start" in wrong.output
    assert CliRunner().invoke(command, ["multi", "help"], prog_name="turbo").exit_code == 0
