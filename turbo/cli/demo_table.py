"""Checks and formats the findings of ``turbo demo``.

Pure: text in, text out; it must never read a file.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from turbo.cli.demo_tasks import RECORD

#: The width of a terminal, in columns.
WIDTH: Final = 80
_NEXT: Final = """Next:
  turbo worker --help
  turbo report
Write tasks.py:
  from turbo import Turbo
  app = Turbo("tasks", broker="amqp://localhost//", backend="rpc://")

  @app.task
  def add(x, y):
      return x + y
Run it; where there is no RabbitMQ, add --embedded-broker:
  turbo worker -c 2 -l info
Call it from another terminal:
  python -c "from tasks import add; print(add.delay(2, 3).get(timeout=10))"
"""


class TaskCounts:
    """Counts the records of quick tasks in the bytes of the record file."""

    def __init__(self) -> None:
        self._rest = b""
        self.runs: Counter[int] = Counter()
        self.by_child: Counter[int] = Counter()

    def feed(self, data: bytes) -> None:
        """Count the records in the next bytes of the file."""
        data = self._rest + data
        whole = len(data) - len(data) % RECORD.size
        self._rest = data[whole:]
        for pid, number in RECORD.iter_unpack(data[:whole]):
            self.runs[number] += 1
            self.by_child[pid] += 1

    @property
    def done(self) -> int:
        """Number of different tasks that have run."""
        return len(self.runs)

    @property
    def repeated(self) -> int:
        """Number of runs beyond the first of each task."""
        return self.runs.total() - len(self.runs)


class Progress:
    """Detects that counts have not changed for ``patience`` seconds."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._seen: tuple[int, ...] = ()
        self._since = 0.0

    def stalled(self, counts: tuple[int, ...], now: float) -> bool:
        """Return whether ``counts`` stayed the same for ``patience`` seconds at ``now``."""
        if counts != self._seen:
            self._seen, self._since = counts, now
        return now - self._since >= self._patience


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the table: what was sent, the expected outcome, and the actual one."""

    what: str
    expected: str
    happened: str
    good: bool


@dataclass(slots=True)
class Findings:
    """The content of the closing text."""

    lines: list[Line] = field(default_factory=list)
    seconds: float = 0.0
    tasks: int = 0
    by_child: Counter[int] = field(default_factory=Counter)

    @property
    def good(self) -> bool:
        """Whether every task had the expected outcome."""
        return bool(self.lines) and all(line.good for line in self.lines)


def quick_line(tally: TaskCounts, wanted: int) -> Line:
    """Return the row of the quick tasks."""
    unfinished = wanted - tally.done
    happened = f"{tally.done:,} ran, each once"
    if unfinished or tally.repeated:
        happened = f"{tally.done:,} ran, {unfinished:,} have not run yet, {tally.repeated:,} repeated"
    return Line(f"{wanted:,} quick tasks", "each to run once", happened, not unfinished and not tally.repeated)


def progress(tally: TaskCounts, total: int, rate: float, alive: int) -> str:
    """Return the progress line."""
    busiest = " ".join(f"{pid}:{count:,}" for pid, count in tally.by_child.most_common(alive))
    return f"{tally.done:>7,} of {total:,}   {rate:>7,.0f}/s   by child {busiest or '-'}"


def table(findings: Findings) -> str:
    """Return the closing text, at most ``WIDTH`` columns wide."""
    width = max((len(line.what) for line in findings.lines), default=0)
    text = [row for line in findings.lines for row in _rows(line, width)]
    children = ", ".join(f"{pid} ran {count:,}" for pid, count in sorted(findings.by_child.items()))
    rate = findings.tasks / findings.seconds if findings.seconds else 0.0
    text += [
        "",
        f"{findings.tasks:,} tasks in {findings.seconds:.1f} s ({rate:,.0f}/s, in-memory broker included)",
        *textwrap.wrap(f"children: {children or 'none'}", WIDTH, subsequent_indent="  "),
        "every task is accounted for" if findings.good else "NOT every task is accounted for",
    ]
    return "\n".join(text) + "\n\n" + _NEXT


def _rows(line: Line, width: int) -> list[str]:
    text = line.happened if line.good else f"{line.happened}; expected: {line.expected}"
    first = f"{'ok' if line.good else 'NO'}  {line.what:<{width}}  "
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=" " * len(first))
