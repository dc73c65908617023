"""Checks and formats the findings of ``turbo demo``. Pure: text in, text out; it must never read a file."""

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
    """Counts the records of quick tasks as their bytes come in."""

    def __init__(self) -> None:
        self._rest = b""
        self.runs: Counter[int] = Counter()
        self.by_child: Counter[int] = Counter()

    def feed(self, data: bytes) -> None:
        """Take more bytes of the record file, in order."""
        data = self._rest + data
        whole = len(data) - len(data) % RECORD.size
        self._rest = data[whole:]
        for pid, number in RECORD.iter_unpack(data[:whole]):
            self.runs[number] += 1
            self.by_child[pid] += 1

    @property
    def done(self) -> int:
        """How many different tasks have run."""
        return len(self.runs)

    @property
    def repeated(self) -> int:
        """How many runs there were beyond the first of each task."""
        return self.runs.total() - len(self.runs)


class Progress:
    """Detects that counts have not changed for some time."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._seen: tuple[int, ...] = ()
        self._since = 0.0

    def stalled(self, counts: tuple[int, ...], now: float) -> bool:
        """Whether ``counts`` have been the same for ``patience`` seconds, at the monotonic time ``now``."""
        if counts != self._seen:
            self._seen, self._since = counts, now
        return now - self._since >= self._patience


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the table: what was sent, what should happen, what did."""

    what: str
    expected: str
    happened: str
    good: bool


@dataclass(slots=True)
class Findings:
    """Everything there is to say at the end."""

    lines: list[Line] = field(default_factory=list)
    seconds: float = 0.0
    tasks: int = 0
    by_child: Counter[int] = field(default_factory=Counter)

    @property
    def good(self) -> bool:
        """Whether every task is accounted for."""
        return bool(self.lines) and all(line.good for line in self.lines)


def quick_line(tally: TaskCounts, wanted: int) -> Line:
    """The row of the quick tasks."""
    unfinished = wanted - tally.done
    happened = f"{tally.done:,} ran, each once"
    if unfinished or tally.repeated:
        happened = f"{tally.done:,} ran, {unfinished:,} have not run yet, {tally.repeated:,} repeated"
    return Line(f"{wanted:,} quick tasks", "each to run once", happened, not unfinished and not tally.repeated)


def progress(tally: TaskCounts, total: int, rate: float, alive: int) -> str:
    """The live line."""
    busiest = " ".join(f"{pid}:{count:,}" for pid, count in tally.by_child.most_common(alive))
    return f"{tally.done:>7,} of {total:,}   {rate:>7,.0f}/s   by child {busiest or '-'}"


def table(findings: Findings) -> str:
    """The closing text, no wider than ``WIDTH``."""
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
    told = line.happened if line.good else f"{line.happened}; it had {line.expected}"
    first = f"{'ok' if line.good else 'NO'}  {line.what:<{width}}  "
    return textwrap.wrap(told, WIDTH, initial_indent=first, subsequent_indent=" " * len(first))
