"""``turbo multi``: starts, stops and restarts several workers in the background.

Takes the command lines of ``celery multi``, which unit files and init scripts contain. A node is found again by its
pidfile, so ``stop`` needs the same ``--pidfile`` as ``start``.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from turbo import __version__
from turbo.cli.global_options import GlobalOptions, take_globals
from turbo.cli.node_list import CommandLine, Node, nodes, read
from turbo.cli.suggestions import hint
from turbo.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_USAGE: Final = """usage: turbo multi start <node1 node2 nodeN|range> [worker options]
       turbo multi stop <n1 n2 nN|range> [-SIG (default: -TERM)]
       turbo multi stopwait <n1 n2 nN|range> [-SIG]
       turbo multi restart <n1 n2 nN|range> [-SIG] [worker options]
       turbo multi kill <n1 n2 nN|range>

       turbo multi show <n1 n2 nN|range> [worker options]
       turbo multi get <hostname> <n1 n2 nN|range> [worker options]
       turbo multi names <n1 n2 nN|range>
       turbo multi expand <template> <n1 n2 nN|range>
       turbo multi help

options after the command's name: --nosplash, --quiet, --verbose, --no-color"""
_OWN: Final = {"--nosplash": "nosplash", "--quiet": "quiet", "-q": "quiet", "--verbose": "verbose"}
#: Celery's places of both files.
_DEFAULTS: Final = {
    "pidfile": (("--pidfile", "-p"), str(Path(os.sep, "var", "run", "celery", "%n.pid"))),
    "logfile": (("--logfile", "-f"), str(Path(os.sep, "var", "log", "celery", "%n%I.log"))),
    "executable": (("--executable",), sys.executable),
}
_POLL: Final = 0.2
#: Polls between two dots.
_DOT: Final = 10


class Multi:
    """The nodes of one command line, and what is done with them.

    Methods return exit codes.
    """

    def __init__(self, line: CommandLine, said: frozenset[str]) -> None:
        """``said`` are the options of the command itself. Raises ImproperlyConfigured."""
        self._nodes = nodes(line, socket.gethostname(), _DEFAULTS)
        self._signal = _signal_of(line)
        self._said = said

    def note(self, text: str, *, newline: bool = True) -> None:
        """Print unless quiet."""
        if "quiet" not in self._said:
            click.echo(text, nl=newline)

    def splash(self) -> None:
        """Print the program's name and version."""
        if "nosplash" not in self._said:
            self.note(click.style(f"turbo multi v{__version__}", fg="cyan"))

    # -- showing -------------------------------------------------------------------------------------------

    def show(self) -> int:
        """Print each node's command."""
        for node in self._nodes:
            click.echo(" ".join(_command(node)))
        return 0

    def names(self) -> int:
        """Print each node's name."""
        for node in self._nodes:
            click.echo(node.name)
        return 0

    def get(self, wanted: str) -> int:
        """Print the arguments of one node."""
        for node in self._nodes:
            if node.name == wanted:
                click.echo(" ".join(node.arguments()))
                return 0
        return 1

    def expand(self, template: str) -> int:
        """Print a template for each node."""
        for node in self._nodes:
            click.echo(node.expand(template))
        return 0

    # -- starting and stopping -----------------------------------------------------------------------------

    def start(self) -> int:
        """Start all nodes."""
        self.splash()
        self.note("> Starting nodes...")
        codes = []
        for node in self._nodes:
            self.note(f"\t> {node.name}: ", newline=False)
            codes.append(self._start(node))
        return int(any(codes))

    def stop(self) -> int:
        """Send the signal to all nodes; do not wait."""
        self.splash()
        self._signalled()
        return 0

    def stopwait(self) -> int:
        """Send the signal to all nodes, and wait until they have ended."""
        self.splash()
        self._wait(self._signalled())
        return 0

    def restart(self) -> int:
        """Stop all nodes, wait, and start all of them."""
        self.stopwait()
        codes = []
        for node in self._nodes:
            self.note(click.style(f"> Restarting node {node.name}: ", fg="blue"), newline=False)
            codes.append(self._start(node))
        return int(any(codes))

    def kill(self) -> int:
        """Send SIGKILL to all nodes."""
        self.splash()
        for node in self._nodes:
            pid = _pid(node)
            if pid is None:
                self._down(node)
                continue
            self.note(f"Sending SIGKILL to node {node.name} ({pid})")
            if not _send(pid, signal.SIGKILL):
                self.note(f"Could not signal {node.name} ({pid}): No such process")
        return 0

    def _start(self, node: Node) -> int:
        for option in (("--pidfile", "-p"), ("--logfile", "-f")):
            Path(node.option(*option)).expanduser().parent.mkdir(parents=True, exist_ok=True)
        command = _command(node)
        if "verbose" in self._said:
            self.note("  " + " ".join(command))
        try:
            code = subprocess.run(command, check=False).returncode
        except OSError as error:
            click.echo(str(error), err=True)
            code = 1
        self.note(click.style("FAILED", fg="red") if code else click.style("OK", fg="green"))
        if code < 0:
            self.note(f"* Child was terminated by signal {-code}")
        elif code:
            self.note(f"* Child terminated with exit code {code}")
        return code

    def _signalled(self) -> dict[int, Node]:
        """Send the signal; return the nodes that got it by their pid."""
        found: dict[int, Node] = {}
        for node in self._nodes:
            pid = _pid(node)
            if pid is None:
                self._down(node)
            else:
                found[pid] = node
        if found:
            self.note(click.style("> Stopping nodes...", fg="blue"))
        for pid, node in list(found.items()):
            self.note(f"\t> {node.name}: {self._signal.name.removeprefix('SIG')} -> {pid}")
            if not _send(pid, self._signal):
                self.note(f"Could not signal {node.name} ({pid}): No such process")
                self._down(node)
                del found[pid]
        return found

    def _wait(self, stopping: dict[int, Node]) -> None:
        while stopping:
            words = "node" if len(stopping) == 1 else "nodes"
            pids = ", ".join(map(str, stopping))
            self.note(click.style(f"> Waiting for {len(stopping)} {words} -> {pids}...", fg="blue"), newline=False)
            ended: list[int] = []
            polls = 0
            while not ended:
                time.sleep(_POLL)
                polls += 1
                if polls % _DOT == 0:
                    self.note(".", newline=False)
                ended = [pid for pid in stopping if not _send(pid, 0)]
            for pid in ended:
                self.note(f"\n\t> {stopping.pop(pid).name}: {click.style('OK', fg='green')}")

    def _down(self, node: Node) -> None:
        self.note(f"> {node.name}: {click.style('DOWN', fg='magenta')}")


def _command(node: Node) -> list[str]:
    return [node.option("--executable"), *node.arguments()]


def _pid(node: Node) -> int | None:
    """Return the pid in a node's pidfile, or None."""
    try:
        return int(Path(node.option("--pidfile", "-p")).expanduser().read_text())
    except (FileNotFoundError, ValueError):
        return None


def _send(pid: int, number: int) -> bool:
    """Send a signal (0: none); return whether the process is there and ours."""
    if _is_zombie(pid):
        return False
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        # The number may have gone to another user's process since.
        return False
    return True


def _is_zombie(pid: int) -> bool:
    """Return whether a process has ended and is a zombie, as without an init."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return status.rpartition(")")[2].split()[0] == "Z"


def _signal_of(line: CommandLine) -> signal.Signals:
    """Return the signal that is given as an option (``-INT``, ``-9``); TERM otherwise."""
    for option in reversed(line.options):
        name = option[1:]
        try:
            return signal.Signals(int(name)) if name.isdigit() else signal.Signals[f"SIG{name.removeprefix('SIG')}"]
        except (KeyError, ValueError):
            continue
    return signal.SIGTERM


_DONE: Final[Mapping[str, Callable[[Multi], int]]] = {
    "kill": Multi.kill,
    "names": Multi.names,
    "restart": Multi.restart,
    "show": Multi.show,
    "start": Multi.start,
    "stop": Multi.stop,
    "stop_verify": Multi.stopwait,
    "stopwait": Multi.stopwait,
}
#: These take one word before the nodes.
_DONE_WITH: Final[Mapping[str, Callable[[Multi, str], int]]] = {"expand": Multi.expand, "get": Multi.get}


@click.pass_context
def _callback(ctx: click.Context, /, words: tuple[str, ...]) -> None:
    options = take_globals(ctx, {})
    said = frozenset(_OWN[word] for word in words if word in _OWN) | ({"quiet"} if options.quiet else set())
    rest = [word for word in words if word not in _OWN]
    try:
        ctx.exit(_run(rest, _globals_as_words(options), said))
    except ImproperlyConfigured as error:
        raise click.ClickException(str(error)) from error


def _run(words: Sequence[str], before: Sequence[str], said: frozenset[str]) -> int:
    name, *rest = words or [""]
    if name in ("help", "-h", "--help"):
        click.echo(_USAGE)
        return 0
    if name in _DONE_WITH and rest:
        return _DONE_WITH[name](Multi(read([*rest[1:], *before]), said), rest[0])
    if name in _DONE and rest:
        return _DONE[name](Multi(read([*before, *rest]), said))
    if name not in _DONE and name not in _DONE_WITH:
        click.echo(f"Invalid command: {name}{hint(name, [*_DONE, *_DONE_WITH])}", err=True)
    click.echo(_USAGE)
    return 1


def _globals_as_words(options: GlobalOptions) -> list[str]:
    """Return the global options that stand before ``multi``, for the workers."""
    words = []
    for each in fields(options):
        value: Any = getattr(options, each.name)
        option = f"--{each.name.replace('_', '-')}"
        if value is True and each.name != "quiet":
            words.append(option)
        elif isinstance(value, str) and each.name != "started_in":
            words.append(f"{option}={value}")
    return words


multi_command = click.Command(
    "multi",
    params=[click.Argument(["words"], nargs=-1, type=click.UNPROCESSED, metavar="COMMAND [NODE]... [OPTION]...")],
    callback=_callback,
    help="Start, stop and restart several workers in the background. `turbo multi help` lists the commands.",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    add_help_option=False,
)
