"""The result file of a run: everything that was read, and the medians and ratios drawn from it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from bench import machine
from bench.contenders import ROOT
from bench.stage import Reading
from bench.statistics import median, ratios

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

DIRECTORY = ROOT / "bench" / "results"


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one measure. ``variant`` tells runs of the same measure with other settings apart."""

    bench: str
    variant: str
    when: str  # ISO 8601, UTC
    commit: str
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    options: Mapping[str, Any]
    readings: Sequence[Reading]

    @property
    def rounds(self) -> int:
        """How many rounds it had."""
        return max((reading.round for reading in self.readings), default=0)

    @property
    def contenders(self) -> list[str]:
        """The contenders' labels, in the order in which they ran."""
        return list(dict.fromkeys(reading.contender for reading in self.readings))

    @property
    def metrics(self) -> list[str]:
        """The names of what was measured."""
        return list(dict.fromkeys(name for reading in self.readings for name in reading.metrics))

    def series(self, contender: str, metric: str) -> list[float | None]:
        """One value a round; None where that round failed or has no such metric."""
        found = {r.round: r.metrics.get(metric) for r in self.readings if r.contender == contender}
        return [found.get(number) for number in range(1, self.rounds + 1)]

    def median(self, contender: str, metric: str) -> float | None:
        """The median over the rounds that succeeded."""
        values = [value for value in self.series(contender, metric) if value is not None]
        return median(values) if values else None

    def ratio(self, metric: str, ours: str, theirs: str) -> float | None:
        """The median of the rounds' ratios."""
        each = ratios(self.series(ours, metric), self.series(theirs, metric))
        return median(each) if each else None

    def failures(self) -> int:
        """How many readings failed."""
        return sum(1 for reading in self.readings if reading.error)

    def save(self, directory: Path = DIRECTORY) -> Path:
        """Write the file; its path."""
        directory.mkdir(parents=True, exist_ok=True)
        stamp = self.when.replace(":", "").replace("-", "")[:15]
        path = directory / f"{self.bench}-{self.variant}-{stamp}.json"
        document = asdict(self)
        document["medians"] = {
            who: {metric: self.median(who, metric) for metric in self.metrics} for who in self.contenders
        }
        document["ratios"] = self._all_ratios()
        path.write_text(json.dumps(document, indent=1) + "\n")
        return path

    def _all_ratios(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        if not self.contenders:
            return found
        ours = self.contenders[0]
        for theirs in self.contenders[1:]:
            of_pair: dict[str, Any] = {}
            for metric in self.metrics:
                each = ratios(self.series(ours, metric), self.series(theirs, metric))
                if each:
                    of_pair[metric] = {"rounds": each, "median": median(each)}
            found[f"{ours} / {theirs}"] = of_pair
        return found


def new(
    bench: str, variant: str, versions: Mapping[str, str], options: Mapping[str, Any], readings: Sequence[Reading]
) -> Run:
    """A run that ends now, on this machine."""
    when = datetime.now(UTC).isoformat(timespec="seconds")
    return Run(bench, variant, when, machine.commit(), machine.describe(), versions, options, readings)


def load(path: Path) -> Run:
    """The run in a result file."""
    document = json.loads(path.read_text())
    readings = [Reading(**reading) for reading in document["readings"]]
    names = ("bench", "variant", "when", "commit", "machine", "versions", "options")
    return Run(**{name: document[name] for name in names}, readings=readings)


def latest(directory: Path = DIRECTORY) -> dict[tuple[str, str], Run]:
    """The newest run of each measure and variant."""
    found: dict[tuple[str, str], Run] = {}
    for path in sorted(directory.glob("*.json")):
        run = load(path)
        key = (run.bench, run.variant)
        if key not in found or found[key].when <= run.when:
            found[key] = run
    return found
