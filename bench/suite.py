"""What ``python -m bench all`` runs: the parts of the page, each of them once a round, as many rounds as time allows.

All parts share one broker. Results are written after every round of a part, so that a run that is interrupted leaves
what it has. With a budget, every part has one round first; what is left goes to the further rounds of those that have
goals, then to those of the others, by what their last rounds took.
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

    A peer with a star stands for itself and for the further turbos that are compared. ``rank`` says who gets
    further rounds first: 0 before 1. Parts of rank 2 begin when the others are over, and have all their rounds or
    none.
    """

    command: str
    most: int = 5
    rank: int = 0

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
                if plain != peer:
                    peers += [plain.replace("turbo", other, 1) for other in beside]
            found[place] = ",".join(peers)
        return found


#: Within a rank the most important first.
SUITE = (
    Line("drain --peers turbo*,turbo*+adopted,turbo+events,celery,null --tasks 5000 --fast-tasks 15000"),
    Line("drain --queue classic --peers turbo*,turbo*+adopted,celery,dramatiq,null --tasks 12000"),
    Line("drain --queue classic --prefetch-multiplier 1 --peers turbo*,turbo*+adaptive,celery "
         "--tasks 4000 --fast-tasks 10000"),
    Line("drain --queue classic --prefetch-multiplier 1 --acks-late --peers turbo*,celery "
         "--tasks 4000 --fast-tasks 10000"),
    Line("drain --queue classic --results redis --peers turbo*,turbo*+adopted,celery --tasks 4000 --fast-tasks 12000"),
    Line("drain --queue classic --results rpc --peers turbo*,turbo*+adopted,celery --tasks 4000 --fast-tasks 12000"),
    Line("latency --peers turbo*,celery --seconds 3"),
    Line("large --queue classic --peers turbo*,celery --tasks 300"),
    Line("scale --peers turbo --tasks 6000"),
    Line("io --shortest 0.01 --longest 0.01 --tasks 8000 --peers turbo,celery"),
    Line("memory --peers turbo*,celery --further 4", most=3, rank=1),
    Line("mixed --peers turbo*,celery --seconds 5", rank=1),
    Line("io --tasks 1000", most=3, rank=1),
    Line("recover", most=1, rank=1),
    Line("recover --victim child", most=1, rank=1),
    Line("startup --peers turbo,celery", most=5, rank=2),
    Line("drain --prefetch-multiplier 1 --peers turbo*,celery --tasks 3000 --fast-tasks 6000", most=3, rank=2),
    Line("fairness", most=3, rank=2),
    Line("control", most=3, rank=2),
    Line("waiting", most=3, rank=2),
    Line("enqueue", most=5, rank=2),
    Line("trace", most=5, rank=2),
    Line("rings", most=5, rank=2),
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

    def round_until(self, end: float, number: int, servers: Servers, output: Path) -> None:
        """Run one round if it can be over before ``end``, a time of the monotonic clock."""
        left = end - time.monotonic()
        if self.cost > left:
            print(f"round {number} leaves out {self.line.command}: {left:.0f} s left", file=sys.stderr, flush=True)
        else:
            self._round(number, servers, output)

    def _round(self, number: int, servers: Servers, output: Path) -> None:
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


def plan(parts: Sequence[Part], first: int, rounds: int, left: float) -> dict[int, int]:
    """The last round of each part, by its place among them, if rounds from ``first`` on have ``left`` seconds."""
    last = dict.fromkeys(range(len(parts)), first - 1)
    for rank in (0, 1):
        for number in range(first, rounds + 1):
            for place, part in enumerate(parts):
                fits = number <= part.line.most and last[place] == number - 1 and part.cost <= left
                if part.line.rank == rank and fits:
                    last[place] = number
                    left -= part.cost
    return last


def run_suite(parts: Sequence[Part], rounds: int, budget: float | None, output: Path) -> list[results.Run]:
    """Run the parts round by round; what each has read."""
    end = time.monotonic() + (float("inf") if budget is None else budget - _RESERVE)
    first, later = [part for part in parts if part.line.rank < 2], [part for part in parts if part.line.rank == 2]
    with Servers() as servers:
        for number in range(1, rounds + 1):
            last = plan(first, number, rounds, end - time.monotonic()) if number > 1 else {}
            for place, part in enumerate(first):
                if last.get(place, 1) >= number:
                    part.round_until(end, number, servers, output)
            print(f"# round {number} ended, {end - time.monotonic():.0f} s left", flush=True)
        for part in later:
            most = min(rounds, part.line.most)
            if part.cost * most > end - time.monotonic():  # fewer rounds than it had before would say less
                print(f"the budget leaves out {part.line.command}", file=sys.stderr, flush=True)
                continue
            for number in range(1, most + 1):
                part.round_until(end, number, servers, output)
    return [part.outcome for part in parts if part.outcome is not None]
