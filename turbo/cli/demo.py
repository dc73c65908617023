"""``turbo demo``: a broker, a worker with two children and a producer on this machine, for half a minute at most.

Runs in the command's own process, which is the producer; broker and worker are processes of their own, as in
real life. Nothing but turbo and its core dependencies is needed. It believes only the records that the tasks
wrote and the results that came back.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import psutil

from turbo.cli import demo_tasks
from turbo.cli.demo_table import Findings, Line, Tally, progress, quick_line, table
from turbo.cli.global_options import GlobalOptions, command
from turbo.embedded_broker.launch import run_in_subprocess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TASKS: Final = 20_000
CHILDREN: Final = 2
#: The promise is 30 s; this leaves time to stop everything.
TIME_ALLOWED: Final = 26.0
_STOP_SECONDS: Final = 6.0
_REDRAW_SECONDS: Final = 0.2
#: Without a terminal a line every so often is enough.
_LINE_SECONDS: Final = 2.0


class _Special:
    """A task that is not quick: after how many quick ones it is sent, and how to read what became of it."""

    def __init__(self, after: int, task: Any, what: str, expected: str, judge: Callable[[Any], str | None]) -> None:
        self.after = after
        self.task = task
        self.what = what
        self.expected = expected
        #: Given the result or the exception: what happened, or None when it is not what should have.
        self.judge = judge
        self.sent: Any = None

    def line(self, deadline: float) -> Line:
        """Wait for the result until ``deadline`` (monotonic) and judge it."""
        left = max(0.1, deadline - time.monotonic())
        try:
            outcome = self.sent.get(timeout=left)
        except Exception as error:  # noqa: BLE001 - whatever the task ended with is the outcome to be judged
            outcome = error
        happened = self.judge(outcome)
        return Line(self.what, self.expected, happened or f"{outcome!r}", happened is not None)


def _raised(name: str) -> Callable[[Any], str | None]:
    return lambda outcome: f"{outcome}" if type(outcome).__name__ == name else None


def _replaced(outcome: Any) -> str | None:
    """The greedy task returned its child's pid; that child must go."""
    if not isinstance(outcome, int):
        return None
    try:
        psutil.Process(outcome).wait(5)
    except psutil.NoSuchProcess:
        # Gone before we looked, which is what we wait for.
        return f"done; child {outcome} was replaced"
    except psutil.TimeoutExpired:
        return None
    return f"done; child {outcome} was replaced"


def _specials() -> list[_Special]:
    return [
        _Special(3_000, demo_tasks.retries, "one that asks for a retry", "second attempt succeeds",
                 lambda outcome: "succeeded at attempt 2" if outcome == 1 else None),
        _Special(6_000, demo_tasks.polite, f"one past its soft limit of {demo_tasks.SOFT_LIMIT:g} s",
                 "is told, cleans up", lambda outcome: outcome if outcome == "cleaned up" else None),
        _Special(9_000, demo_tasks.stubborn, f"one past its hard limit of {demo_tasks.HARD_LIMIT:g} s",
                 "is killed: TimeLimitExceeded", _raised("TimeLimitExceeded")),
        _Special(12_000, demo_tasks.doomed, "one whose child dies under it", "fails: WorkerLostError",
                 _raised("WorkerLostError")),
        _Special(15_000, demo_tasks.greedy, f"one that makes its child grow past {demo_tasks.MEMORY_LIMIT}",
                 "ends; then a new child", _replaced),
    ]  # fmt: skip


class Producer(threading.Thread):
    """Sends every task, and then collects the results of the special ones (they come to the thread that sent)."""

    def __init__(self, deadline: float) -> None:
        super().__init__(name="demo-producer", daemon=True)
        self._deadline = deadline
        self._specials = _specials()
        self.quick = TASKS - len(self._specials)
        self.lines: list[Line] = []
        self.error: Exception | None = None

    def run(self) -> None:
        """Send, then wait."""
        try:
            self._send()
            self.lines = [special.line(self._deadline) for special in self._specials]
        except Exception as error:  # noqa: BLE001 - a thread has nobody to raise to; the command reports it
            self.error = error

    def _send(self) -> None:
        waiting = {special.after: special for special in self._specials}
        for number in range(self.quick):
            if number in waiting:
                waiting[number].sent = waiting[number].task.delay()
            demo_tasks.quick.delay(number)


@command("demo", [], "Show a worker at work on this machine: no broker, no configuration needed.")
def demo_command(ctx: click.Context, options: GlobalOptions, given: dict[str, Any]) -> None:
    """Run the demo; exit 0 only if every task is accounted for."""
    with tempfile.TemporaryDirectory(prefix="turbo-demo-") as folder, contextlib.ExitStack() as cleanup:
        ctx.exit(0 if _demo(Path(folder), cleanup) else 1)


def _demo(folder: Path, cleanup: contextlib.ExitStack) -> bool:
    started = time.monotonic()
    record, log = folder / "record", folder / "worker.log"
    record.touch()
    broker = cleanup.enter_context(run_in_subprocess())
    click.echo(f"broker: {broker.url}")
    settings = {"CELERY_BROKER_URL": broker.url, "CELERY_RESULT_BACKEND": "rpc://"}
    settings |= dict.fromkeys(("CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"), broker.url)
    os.environ.update(settings)
    worker = cleanup.enter_context(_worker(log, {**settings, demo_tasks.RECORD_VARIABLE: str(record)}))
    click.echo(f"worker: pid {worker.pid}, {CHILDREN} children; producer: this process, {TASKS:,} tasks")
    producer = Producer(started + TIME_ALLOWED)
    producer.start()
    tally = _watch(record, producer, worker, started + TIME_ALLOWED)
    findings = Findings(
        [quick_line(tally, producer.quick), *producer.lines],
        time.monotonic() - started,
        tally.done + len(producer.lines),
        tally.by_child,
    )
    if worker.poll() is not None:
        findings.lines.append(Line("the worker", "stays up", f"ended with exit code {worker.returncode}", False))
    elif producer.error is not None:
        findings.lines.append(Line("the producer", "sends and hears back", repr(producer.error), False))
    elif not producer.lines:
        findings.lines.append(Line("the others", "have results", f"none after {TIME_ALLOWED:g} s", False))
    if not producer.is_alive():
        demo_tasks.app.close()
    click.echo(table(findings))
    if not findings.good and log.exists():
        click.echo("The end of the worker's log:\n" + log.read_text(errors="replace")[-4000:], err=True)
    return findings.good


@contextlib.contextmanager
def _worker(log: Path, settings: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """The worker, as anybody would start it; ended on the way out, politely first."""
    arguments = [
        *(sys.executable, "-m", "turbo", "-q", "-A", "turbo.cli.demo_tasks:app", "worker"),
        *("-c", str(CHILDREN), "-l", "warning", "--max-memory-per-child", demo_tasks.MEMORY_LIMIT),
        *("--shutdown-timeout", "3"),
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(
            arguments,
            env={**os.environ, **settings},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _watch(record: Path, producer: Producer, worker: subprocess.Popen[bytes], deadline: float) -> Tally:
    """Follow the record until all is done, the worker is gone, or time is up; draw the live line meanwhile."""
    tally = Tally()
    live = sys.stdout.isatty()
    pause = _REDRAW_SECONDS if live else _LINE_SECONDS
    drawn_at, drawn_done = time.monotonic(), 0
    with record.open("rb") as file:
        while True:
            # Asked before the file is read: what ran before the producer ended is then surely counted.
            over = not producer.is_alive() and tally.done >= producer.quick
            tally.feed(file.read())
            now = time.monotonic()
            if now - drawn_at >= pause or over:
                rate = (tally.done - drawn_done) / max(now - drawn_at, 1e-3)
                _draw(progress(tally, producer.quick, rate, CHILDREN + 2), live)
                drawn_at, drawn_done = now, tally.done
            if over or now > deadline or worker.poll() is not None or producer.error is not None:
                break
            producer.join(0.05)
            if not producer.is_alive():
                time.sleep(0.05)
    tally.feed(b"")
    click.echo("\n" if live else "")
    return tally


def _draw(text: str, live: bool) -> None:
    if not live:
        click.echo(text)
        return
    width = shutil.get_terminal_size().columns - 1
    sys.stdout.write("\r" + text[:width].ljust(width))
    sys.stdout.flush()
