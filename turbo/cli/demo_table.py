"""What ``turbo demo`` found, judged and laid out: pure text in, text out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from turbo.cli.demo_tasks import RECORD

_NEXT: Final = """Next:
  turbo worker --help
  turbo report
  Write tasks.py:
      from turbo import Turbo
      app = Turbo("tasks", broker="amqp://localhost//", backend="rpc://")

      @app.task
      def add(x, y):
          return x + y
  Run it:                turbo worker -c 2 -l info      (add --embedded-broker where there is no RabbitMQ)
  Call it elsewhere:     python -c "from tasks import add; print(add.delay(2, 3).get(timeout=10))"
"""


class Tally:
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


def quick_line(tally: Tally, sent: int) -> Line:
    """The row of the quick tasks."""
    missing = sent - tally.done
    happened = f"{tally.done:,} ran"
    if missing or tally.repeated:
        happened += f", {missing:,} missing, {tally.repeated:,} repeated"
    return Line(f"{sent:,} quick tasks", "each runs once", happened, not missing and not tally.repeated)


def progress(tally: Tally, total: int, rate: float, alive: int) -> str:
    """The live line."""
    busiest = " ".join(f"{pid}:{count:,}" for pid, count in tally.by_child.most_common(alive))
    return f"{tally.done:>7,} of {total:,}   {rate:>7,.0f}/s   by child {busiest or '-'}"


def table(findings: Findings) -> str:
    """The closing text."""
    rows = [("task", "should", "did"), *((x.what, x.expected, x.happened) for x in findings.lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    marks = ["  ", *("ok" if line.good else "NO" for line in findings.lines)]
    text = [
        f"{mark}  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for mark, row in zip(marks, rows, strict=True)
    ]
    text.insert(1, "    " + "  ".join("-" * width for width in widths))
    children = ", ".join(f"{pid} ran {count:,}" for pid, count in sorted(findings.by_child.items()))
    rate = findings.tasks / findings.seconds if findings.seconds else 0.0
    text += [
        "",
        f"{findings.tasks:,} tasks in {findings.seconds:.1f} s ({rate:,.0f}/s, in-memory broker included)",
        f"children: {children or 'none'}",
        "every task is accounted for" if findings.good else "NOT every task is accounted for",
    ]
    return "\n".join(text) + "\n\n" + _NEXT
