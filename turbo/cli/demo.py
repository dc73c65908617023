"""``turbo demo``: runs a broker, a worker and a producer for about ten seconds.

The command's own process is the producer; broker and worker (with two children) are separate processes. It needs only
turbo and its core dependencies. It counts only the records that tasks wrote and the results that came back. It must not
fail because the machine is slow, so it gives up only after ``STALLED_SECONDS`` without progress.
"""

from __future__ import annotations

import contextlib
import logging
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
from turbo.cli.demo_table import WIDTH, Findings, Line, Progress, TaskCounts, progress, quick_line, table
from turbo.cli.global_options import GlobalOptions
from turbo.embedded_broker.launch import run_in_subprocess
from turbo.exceptions import TimeoutError as TurboTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TASKS: Final = 20_000
CHILDREN: Final = 2
#: Seconds without any progress after which the demo gives up. The longest task takes two seconds.
STALLED_SECONDS: Final = 20.0
_STOP_SECONDS: Final = 6.0
_RESULT_SECONDS: Final = 0.2
_REDRAW_SECONDS: Final = 0.2
#: Interval between progress lines if standard output is not a terminal.
_LINE_SECONDS: Final = 2.0
#: The exit code by which a shell reports a command that Ctrl-C ended.
_INTERRUPTED: Final = 130


class _Special:
    """A task with a special outcome.

    It has the number of quick tasks after which it is sent, and a check of its outcome.
    """

    def __init__(self, after: int, task: Any, what: str, expected: str, check: Callable[[Any], str | None]) -> None:
        self.after = after
        self.task = task
        self.what = what
        self.expected = expected
        #: Gets the result or the exception; returns a text about the outcome, or None if it is not the expected one.
        self.check = check
        self.sent: Any = None

    def line(self, stopping: threading.Event) -> Line:
        """Wait for the result until ``stopping`` is set; return its row of the table."""
        while self.sent is not None and not stopping.is_set():
            try:
                outcome = self.sent.get(timeout=_RESULT_SECONDS)
            except TurboTimeoutError:
                continue
            except Exception as error:  # noqa: BLE001 - any exception of the task is an outcome to check
                outcome = error
            happened = self.check(outcome)
            return Line(self.what, self.expected, happened or f"{outcome!r}", happened is not None)
        return Line(self.what, self.expected, "no result yet when the demo stopped", False)


def _raised(name: str) -> Callable[[Any], str | None]:
    return lambda outcome: f"failed with {name}" if type(outcome).__name__ == name else None


def _replaced(outcome: Any) -> str | None:
    """Check that the child whose pid the greedy task returned (``outcome``) has ended."""
    if not isinstance(outcome, int):
        return None
    try:
        psutil.Process(outcome).wait(STALLED_SECONDS)
    except psutil.NoSuchProcess:
        # It has ended already, as expected.
        return f"ended; its child {outcome} was replaced"
    except psutil.TimeoutExpired:
        return None
    return f"ended; its child {outcome} was replaced"


def _specials() -> list[_Special]:
    return [
        _Special(3_000, demo_tasks.retries, "one that retries", "to succeed at its second attempt",
                 lambda outcome: "succeeded at attempt 2" if outcome == 1 else None),
        _Special(6_000, demo_tasks.polite, f"one past its soft limit of {demo_tasks.SOFT_LIMIT:g} s",
                 "to get the exception and clean up", lambda outcome: outcome if outcome == "cleaned up" else None),
        _Special(9_000, demo_tasks.stubborn, f"one past its hard limit of {demo_tasks.HARD_LIMIT:g} s",
                 "to be killed, and fail with TimeLimitExceeded", _raised("TimeLimitExceeded")),
        _Special(12_000, demo_tasks.doomed, "one whose child dies", "to fail with WorkerLostError",
                 _raised("WorkerLostError")),
        _Special(15_000, demo_tasks.greedy, f"one that grows past {demo_tasks.MEMORY_LIMIT}",
                 "to end, and its child to be replaced", _replaced),
    ]  # fmt: skip


class Producer(threading.Thread):
    """Sends all tasks, then waits for the results of the special ones.

    The results arrive at the thread that sent the tasks.
    """

    def __init__(self) -> None:
        super().__init__(name="demo-producer", daemon=True)
        self._specials = _specials()
        self.quick = TASKS - len(self._specials)
        self.stopping = threading.Event()
        # Written by this thread, read by the command.
        self.sent = 0
        self.lines: list[Line] = []
        self.error: Exception | None = None

    def run(self) -> None:
        """Send the tasks, then wait for the special results."""
        try:
            self._send()
            for special in self._specials:
                self.lines.append(special.line(self.stopping))
        except Exception as error:  # noqa: BLE001 - a thread cannot raise in the command, which reports the error
            self.error = error

    def stop(self) -> None:
        """Stop waiting for results and close the broker connection."""
        self.stopping.set()
        self.join(_STOP_SECONDS)
        if not self.is_alive():
            demo_tasks.app.close()

    def _send(self) -> None:
        waiting = {special.after: special for special in self._specials}
        for number in range(self.quick):
            if self.stopping.is_set():
                return
            if number in waiting:
                waiting[number].sent = waiting[number].task.delay()
            demo_tasks.quick.delay(number)
            self.sent += 1


def demo(ctx: click.Context) -> None:
    """Run the demo; exit with 0 only if every task has the expected outcome.

    Global options are refused.
    """
    given = ctx.obj if isinstance(ctx.obj, GlobalOptions) else GlobalOptions()
    if given != GlobalOptions():
        raise click.UsageError("the demo has its own app, broker and worker, and takes no options")
    # Hide log messages about the end of the broker, which the demo ends itself.
    logging.getLogger().addHandler(logging.NullHandler())
    with tempfile.TemporaryDirectory(prefix="turbo-demo-") as folder, contextlib.ExitStack() as cleanup:
        try:
            ctx.exit(0 if _demo(Path(folder), cleanup) else 1)
        except KeyboardInterrupt:
            click.echo("\nstopped", err=True)
            ctx.exit(_INTERRUPTED)


demo_command = click.Command(
    "demo",
    callback=click.pass_context(demo),
    help="Run a broker, a worker and tasks on this machine; needs no broker and no configuration.",
)


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
    click.echo(f"worker: pid {worker.pid}, {CHILDREN} children")
    click.echo(f"producer: this process, {TASKS:,} tasks")
    producer = Producer()
    cleanup.callback(producer.stop)
    producer.start()
    tally, stalled = _watch(record, producer, worker)
    seconds = time.monotonic() - started
    producer.stop()
    findings = Findings(
        [quick_line(tally, producer.quick), *producer.lines],
        seconds,
        tally.done + sum(line.good for line in producer.lines),
        tally.by_child,
    )
    if worker.poll() is not None:
        findings.lines.append(Line("the worker", "to keep running", f"ended with exit code {worker.returncode}", False))
    if producer.error is not None:
        findings.lines.append(Line("the producer", "to send and get results", repr(producer.error), False))
    if stalled:
        findings.lines.append(Line("all tasks", "to progress", f"no progress for {STALLED_SECONDS:g} s", False))
    click.echo(table(findings))
    if not findings.good and log.exists():
        click.echo("The end of the worker's log:\n" + log.read_text(errors="replace")[-4000:], err=True)
    return findings.good


@contextlib.contextmanager
def _worker(log: Path, settings: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Start the worker by its command.

    Terminate it at exit, and kill it if it has not ended in time.
    """
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


def _watch(record: Path, producer: Producer, worker: subprocess.Popen[bytes]) -> tuple[TaskCounts, bool]:
    """Read the record file until all tasks are done, or something fails.

    Worker and producer can fail, and progress can stop. Draws the progress line. Returns the counts, and whether it
    gave up for lack of progress.
    """
    tally, progressed = TaskCounts(), Progress(STALLED_SECONDS)
    live = sys.stdout.isatty()
    pause = _REDRAW_SECONDS if live else _LINE_SECONDS
    drawn_at, drawn_done = time.monotonic(), 0
    with record.open("rb") as file:
        while True:
            # Checked before the file is read, so that every run before the producer's end is counted.
            over = not producer.is_alive() and tally.done >= producer.quick
            tally.feed(file.read())
            now = time.monotonic()
            stalled = progressed.stalled((producer.sent, tally.done, len(producer.lines)), now)
            if now - drawn_at >= pause or over:
                rate = (tally.done - drawn_done) / max(now - drawn_at, 1e-3)
                _draw(progress(tally, producer.quick, rate, CHILDREN), live)
                drawn_at, drawn_done = now, tally.done
            if over or stalled or worker.poll() is not None or producer.error is not None:
                break
            producer.join(0.05)
            if not producer.is_alive():
                time.sleep(0.05)
    click.echo("\n" if live else "")
    return tally, stalled and not over


def _draw(text: str, live: bool) -> None:
    if not live:
        click.echo(text)
        return
    width = min(WIDTH, shutil.get_terminal_size().columns) - 1
    sys.stdout.write("\r" + text[:width].ljust(width))
    sys.stdout.flush()
