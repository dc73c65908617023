"""What ``python -m bench all`` runs: the parts of the page, each of them once a round, as many rounds as time allows.

All parts share one broker. Results are written after every round of a part, so that a run that is interrupted leaves
what it has. A part that would not end within the budget is left out of the round.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from bench import results
from bench.contenders import Contender, prepare
from bench.measures import MEASURES, contenders_of, peers_of, variant_of
from bench.options import parse_measure
from bench.servers import Servers
from bench.stage import Reading, Stage, one_round

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bench.stage import Metrics

#: Seconds that a part is expected to take in its first round.
_FIRST = 30.0
#: Seconds at the end for the servers to stop and the page to be written.
_RESERVE = 10.0


@dataclass(frozen=True, slots=True)
class Line:
    """One part: the words of its command line, and in how many rounds it takes part at most.

    A peer with a star stands for itself and for the further turbos that are compared.
    """

    command: str
    most: int = 5

    def wanted(self, only: Sequence[str]) -> bool:
        """Whether the command line's ``--only`` names it."""
        return not only or any(part in self.command for part in only)

    def words(self, beside: Sequence[str]) -> list[str]:
        """The words, with each starred peer written out."""
        found = self.command.split()
        if "--peers" in found:
            place = found.index("--peers") + 1
            peers: list[str] = []
            for peer in found[place].split(","):
                plain = peer.replace("*", "")
                peers.append(plain)
                if "*" in peer:
                    peers += [plain.replace("turbo", other, 1) for other in beside]
            found[place] = ",".join(peers)
        return found


#: The most important first: what the budget cuts off in the last round is the end.
SUITE = (
    Line("drain --peers turbo*,turbo*+adopted,turbo+events,celery,null --tasks 6000 --fast-tasks 20000"),
    Line("drain --queue classic --peers turbo*,turbo*+adopted,celery,dramatiq,null --tasks 12000"),
    Line("drain --queue classic --prefetch-multiplier 1 --peers turbo*,turbo*+adaptive,celery "
         "--tasks 4000 --fast-tasks 10000"),
    Line("drain --queue classic --prefetch-multiplier 1 --acks-late --peers turbo*,celery "
         "--tasks 4000 --fast-tasks 10000"),
    Line("drain --queue classic --results redis --peers turbo*,turbo*+adopted,celery --tasks 4000 --fast-tasks 12000"),
    Line("drain --queue classic --results rpc --peers turbo*,turbo*+adopted,celery --tasks 4000 --fast-tasks 12000"),
    Line("latency --peers turbo*,celery --seconds 3"),
    Line("large --queue classic --peers turbo*,celery --tasks 400"),
    Line("scale --peers turbo* --tasks 12000"),
    Line("memory --peers turbo*,celery", most=3),
    Line("io --shortest 0.01 --longest 0.01 --tasks 8000 --peers turbo*,celery", most=3),
    Line("io --tasks 1000", most=3),
    Line("mixed --peers turbo*,celery --seconds 5"),
    Line("recover", most=1),
    Line("recover --victim child", most=1),
    Line("startup --peers turbo*,celery", most=3),
    Line("drain --prefetch-multiplier 1 --peers turbo*,celery --tasks 3000 --fast-tasks 6000", most=3),
    Line("fairness", most=1),
    Line("control --tasks 5000 --fast-tasks 60000", most=1),
    Line("waiting --tasks 3000", most=1),
    Line("enqueue --tasks 3000", most=1),
    Line("trace", most=3),
    Line("rings", most=3),
)  # fmt: skip


def keys() -> set[tuple[str, str]]:
    """Measure and variant of every part."""
    every = (parse_measure(line.words(())) for line in SUITE)
    return {(args.measure, variant_of(args)) for args in every}


@dataclass(slots=True)
class Part:
    """A line with what its rounds have read so far."""

    line: Line
    args: argparse.Namespace
    contenders: list[Contender]
    versions: dict[str, str]
    cost: float = _FIRST
    _readings: list[Reading] = field(default_factory=list)
    _measure: Callable[[Contender], Metrics] | None = None
    outcome: results.Run | None = None

    @classmethod
    def of(cls, line: Line, beside: Sequence[str]) -> Part:
        """The part of a line; builds the environments that it needs."""
        args = parse_measure(line.words(beside))
        args.peers = peers_of(args)
        versions = prepare(args.peers, args.app) if args.measure != "rings" else {}
        return cls(line, args, contenders_of(args), versions)

    def round(self, number: int, servers: Servers, output: Path) -> None:
        """Run one round and write what is known by now."""
        args = self.args
        if self._measure is None:
            stage = Stage(servers, queue_type=args.queue, results=args.results)
            self._measure = MEASURES[args.measure].run(args, stage)
        print(f"# {self.line.command}", flush=True)
        started = time.monotonic()
        self._readings += one_round(self.contenders, number, self._measure)
        self.cost = time.monotonic() - started
        if self.outcome is None:
            skipped = ("output", "measure")
            options: dict[str, Any] = {name: value for name, value in vars(args).items() if name not in skipped}
            self.outcome = results.new(args.measure, variant_of(args), self.versions, options, self._readings)
        self.outcome = replace(self.outcome, readings=tuple(self._readings))
        self.outcome.save(output)
        print(f"# {self.cost:.0f} s", flush=True)


def run_suite(parts: Sequence[Part], rounds: int, budget: float | None, output: Path) -> list[results.Run]:
    """Run the parts round by round; what each has read."""
    started = time.monotonic()
    with Servers() as servers:
        for number in range(1, rounds + 1):
            for part in parts:
                if number > part.line.most:
                    continue
                left = float("inf") if budget is None else budget - _RESERVE - (time.monotonic() - started)
                if part.cost > left:
                    print(f"round {number} leaves out {part.line.command}: {left:.0f} s left", file=sys.stderr)
                    continue
                part.round(number, servers, output)
            print(f"# round {number} ended after {time.monotonic() - started:.0f} s", flush=True)
    return [part.outcome for part in parts if part.outcome is not None]
