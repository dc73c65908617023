"""``python -m bench MEASURE``: run one measure, or all, print what was reached, and keep it in a file."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import results
from bench.contenders import prepare
from bench.measures import MEASURES, contenders_of, peers_of, variant_of
from bench.options import add_measures
from bench.processes import BenchError
from bench.report import write_report
from bench.servers import Servers
from bench.stage import Reading, Stage, alternate
from bench.suite import SUITE, Part, run_suite

if TYPE_CHECKING:
    from collections.abc import Sequence


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = top.add_subparsers(dest="measure", required=True, metavar="MEASURE")
    add_measures(commands)
    everything = commands.add_parser("all", help="every measure of the page, all of them once a round, then the page")
    everything.add_argument("--rounds", type=int, default=5, help="rounds at most (default: %(default)s)")
    everything.add_argument("--budget", type=_seconds, default=None, metavar="TIME",
                            help="end within this time, such as 18m; what no longer fits is left out")  # fmt: skip
    everything.add_argument("--only", type=lambda text: text.split(","), default=[],
                            help="comma-separated: parts whose name contains one of these")  # fmt: skip
    everything.add_argument("--with", dest="beside", type=lambda text: text.split(","), default=["turbo-old"],
                            metavar="PEERS", help="further turbos to compare: turbo-old (the default), "
                            "turbo-compiled; comma-separated, or none")  # fmt: skip
    everything.add_argument("--prepare", action="store_true", help="only build the environments that it needs")
    everything.add_argument("--output", type=Path, default=results.DIRECTORY, help="where the result files go")
    report = commands.add_parser("report", help="write docs/benchmarks.md and its plots from the latest results")
    report.add_argument("--from", dest="source", type=Path, default=results.DIRECTORY)
    return top


def _seconds(text: str) -> float:
    """``90``, ``90s`` or ``18m`` in seconds."""
    match = re.fullmatch(r"(\d+)([sm]?)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: write 90s or 18m")
    return int(match[1]) * (60.0 if match[2] == "m" else 1.0)


def run(args: argparse.Namespace) -> results.Run:
    """Run one measure as its command line says, and save it."""
    args.peers = peers_of(args)
    versions = prepare(args.peers, args.app) if args.measure != "rings" else {}
    contenders = contenders_of(args)
    with Servers() as servers:
        stage = Stage(servers, queue_type=args.queue, results=args.results)
        print(f"# {args.measure} {variant_of(args)}", flush=True)
        measure = MEASURES[args.measure].run(args, stage)
        readings: Sequence[Reading] = alternate(contenders, args.rounds, measure)
    options: dict[str, Any] = {name: value for name, value in vars(args).items() if name not in ("output", "measure")}
    outcome = results.new(args.measure, variant_of(args), versions, options, readings)
    _show(outcome)
    print(f"written to {outcome.save(args.output)}")
    return outcome


def _show(outcome: results.Run) -> None:
    ours, *others = outcome.contenders
    for metric in outcome.metrics:
        print(metric)
        for each in outcome.contenders:
            middle, ratio = outcome.median(each, metric), outcome.ratio(metric, ours, each)
            shown = "failed" if middle is None else f"{middle:,.4g}"
            compared = f"   {ours} / {each}: {ratio:.3g}" if each in others and ratio is not None else ""
            print(f"    {each:<22}{shown:>12}{compared}")


def _run_all(args: argparse.Namespace) -> int:
    """Run the page's measures, then write the page if the results are where it reads them."""
    beside = [name for name in args.beside if name != "none"]
    parts = [Part.of(line, beside) for line in SUITE if line.wanted(args.only)]
    if args.prepare:
        print(f"{len(parts)} parts are ready")
        return 0
    outcomes = run_suite(parts, args.rounds, args.budget, args.output)
    for outcome in outcomes:
        print(f"# {outcome.bench} {outcome.variant}, {outcome.rounds} rounds")
        _show(outcome)
    if args.output == results.DIRECTORY:
        write_report(results.DIRECTORY)
    return 1 if sum(outcome.failures() for outcome in outcomes) else 0


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit status: 0 when every reading succeeded."""
    args = parser().parse_args(argv)
    try:
        if args.measure == "report":
            for path in write_report(args.source):
                print(f"written to {path}")
            return 0
        if args.measure == "all":
            return _run_all(args)
        return 1 if run(args).failures() else 0
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
