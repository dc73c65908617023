"""The options of each measure's command line."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import results
from bench.contenders import PEERS, WAYS
from bench.measures import MEASURES, Measure
from bench.recover import VICTIMS

if TYPE_CHECKING:
    from collections.abc import Sequence


def add_measures(commands: Any) -> None:
    """Add a command for each measure to what ``add_subparsers`` gave."""
    for name, measure in MEASURES.items():
        _options(commands.add_parser(name, help=measure.about), measure)


def parse_measure(words: Sequence[str]) -> argparse.Namespace:
    """Read the command line of one measure."""
    top = argparse.ArgumentParser(prog="python -m bench")
    add_measures(top.add_subparsers(dest="measure", required=True))
    return top.parse_args(words)


def _options(command: argparse.ArgumentParser, measure: Measure) -> None:
    add = command.add_argument
    add("--peers", type=lambda text: text.split(","), default=[],
        help=f"comma-separated, of {', '.join(PEERS)}, each with what may follow: +{', +'.join(WAYS)} "
        f"(default: {','.join(measure.peers)})")  # fmt: skip
    add("-c", "--concurrency", type=int, default=measure.concurrency, help="children (default: %(default)s)")
    add("--rounds", type=int, default=5, help="rounds, each contender once in each (default: %(default)s)")
    add("--tasks", type=int, default=0, help="tasks a round (default: the measure's own)")
    add("--fast-tasks", type=int, default=0, help="the same for the peers that are several times faster")
    add("--queue", choices=("quorum", "classic"), default="quorum",
        help="type of the queue (default: %(default)s); dramatiq's is classic")  # fmt: skip
    add("--results", choices=("none", "redis", "rpc"), default="none", help="where results go (drain)")
    add("--app", choices=("turbo", "celery"), default="turbo",
        help="what turbo's worker's app is written with; with celery both workers run the same module")  # fmt: skip
    add("--prefetch-multiplier", type=int, default=None, help="worker_prefetch_multiplier of the app")
    add("--acks-late", action="store_true", help="task_acks_late of the app")
    add("--events", action="store_true", help="each worker without and with -E, and a queue of events (drain)")
    add("--rates", type=lambda text: [int(part) for part in text.split(",")], default=[200, 1000],
        help="messages a second (latency: 200,1000; mixed: the first)")  # fmt: skip
    add("--seconds", type=float, default=10, help="seconds at each rate (latency, mixed; default: %(default)s)")
    add("--further", type=int, default=4, help="further children (memory; default: %(default)s)")
    add("--many", type=lambda text: [int(part) for part in text.split(",")], default=[32, 200],
        help="the larger concurrencies (scale; default: 32,200)")  # fmt: skip
    add("--size", type=int, default=1_000_000, help="bytes of the argument (large); of the record (rings: 200)")
    add("--one-in", type=int, default=100, help="one slow task in so many (fairness, mixed)")
    add("--fast", type=float, default=0.005, help="seconds of a fast task (fairness, mixed)")
    add("--slow", type=float, default=None, help="seconds of a slow task (default: fairness 1, mixed 0.5)")
    add("--shortest", type=float, default=0.01, help="seconds of the shortest wait (io; default: %(default)s)")
    add("--longest", type=float, default=1.0, help="seconds of the longest wait (io; default: %(default)s)")
    add("--kills", type=int, default=5, help="kills a round (recover; default: %(default)s)")
    add("--victim", choices=VICTIMS, default=VICTIMS[0], help="what is killed (recover; default: %(default)s)")
    add("--turbo-option", action="append", default=[], metavar="WORD", help="further word for turbo's command")
    add("--output", type=Path, default=results.DIRECTORY, help="where the result file goes")
