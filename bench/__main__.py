"""``python -m bench MEASURE``: run one measure, or all, print what was reached, and keep it in a file."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import results
from bench.contenders import PEERS, AppSettings, Contender, contender, prepare
from bench.control import control
from bench.drain import Load, drain
from bench.enqueue import enqueue, senders
from bench.fairness import Mix, fairness
from bench.idle import memory, startup
from bench.latency import latency
from bench.processes import BenchError
from bench.report import write_report
from bench.rings import rings
from bench.servers import Servers
from bench.stage import Metrics, Reading, Stage, alternate
from bench.trace import trace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


#: Whose tasks are ``async def``, by the end of its label.
COROUTINES = "coroutines"


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure: whom it compares by default, its concurrency, and how one round of one contender goes."""

    about: str
    peers: tuple[str, ...]
    concurrency: int
    run: Callable[[argparse.Namespace, Stage], Callable[[Contender], Metrics]]


def _drain(args: argparse.Namespace, stage: Stage) -> Callable[[Contender], Metrics]:
    task = "noop" if args.results == "none" else "noop_result"
    # The same for all unless asked otherwise: a classic queue costs the broker more a message the longer it is.
    tasks = args.tasks or 30_000
    load = Load(task, (), tasks, args.fast_tasks or tasks)
    if args.events:
        stage.keep_events()
    return lambda each: drain(stage, load, each)


def _large(args: argparse.Namespace, stage: Stage) -> Callable[[Contender], Metrics]:
    tasks = args.tasks or 1000
    load = Load("payload", ("x" * args.size,), tasks, tasks)
    return lambda each: drain(stage, load, each)


def _waiting(args: argparse.Namespace, stage: Stage) -> Callable[[Contender], Metrics]:
    tasks = args.tasks or 5000
    loads = {name: Load(name, (), tasks, tasks) for name in ("nap", "snooze")}
    return lambda each: drain(stage, loads["nap" if each.label.endswith(COROUTINES) else "snooze"], each)


def _latency(args: argparse.Namespace, stage: Stage) -> Callable[[Contender], Metrics]:
    return lambda each: latency(stage, tuple(args.rates), args.seconds, each)


def _memory(args: argparse.Namespace, stage: Stage) -> Callable[[Contender], Metrics]:
    return lambda each: memory(stage, args.further, each)


def _startup(args: argparse.Namespace, stage: Stage) -> Callable[[Contender], Metrics]:
    warmed: set[str] = set()

    def once(each: Contender) -> Metrics:
        if each.label not in warmed:
            startup(stage, each)  # compiles and caches files
            warmed.add(each.label)
        return startup(stage, each)

    return once


def _control(args: argparse.Namespace, stage: Stage) -> Callable[[Contender], Metrics]:
    tasks, fast = args.tasks or 20_000, args.fast_tasks or args.tasks or 100_000
    return lambda each: control(stage, fast if each.peer == "turbo" else tasks, each)


def _fairness(args: argparse.Namespace, stage: Stage) -> Callable[[Contender], Metrics]:
    mix = Mix(args.tasks or 2000, args.one_in, args.fast, args.slow)
    return lambda each: fairness(stage, mix, each)


def _rings(args: argparse.Namespace, stage: Stage) -> Callable[[Contender], Metrics]:
    return lambda each: rings(args.tasks or 200_000, 200 if args.size == 1_000_000 else args.size)


def _trace(args: argparse.Namespace, stage: Stage) -> Callable[[Contender], Metrics]:
    return lambda each: trace(stage, args.tasks or 20_000, each)


def _enqueue(args: argparse.Namespace, stage: Stage) -> Callable[[Contender], Metrics]:
    return lambda each: enqueue(stage, args.tasks or 5000, each)


MEASURES = {
    "drain": Measure("empty a queue of no-op tasks", ("turbo", "celery", "dramatiq", "null"), 2, _drain),
    "latency": Measure("publish to start at steady rates", ("turbo", "celery", "null"), 2, _latency),
    "memory": Measure("PSS of the idle worker", ("turbo", "celery"), 2, _memory),
    "startup": Measure("command to first task done", ("turbo", "celery"), 2, _startup),
    "fairness": Measure("fast tasks behind slow ones", ("turbo", "celery"), 4, _fairness),
    "control": Measure("inspect ping at full load", ("turbo", "celery"), 2, _control),
    "rings": Measure("the rings alone", ("turbo",), 1, _rings),
    "scale": Measure("the master's time per task at many children", ("turbo",), 2, _drain),
    "large": Measure("large messages", ("turbo", "celery"), 2, _large),
    "waiting": Measure("tasks that wait 5 ms: coroutines beside functions", ("turbo",), 2, _waiting),
    "trace": Measure("decode and trace a no-op task in a child", ("turbo", "celery"), 1, _trace),
    "enqueue": Measure("calls of delay a second from one process", ("turbo", "celery"), 1, _enqueue),
    "trace-less": Measure("turbo beside its transport without decoding and tracing",
                          ("turbo", "sketch", "null"), 2, _drain),
}  # fmt: skip

#: What `all` runs: every row of the table of goals.
SUITE = (
    ("drain",),
    ("drain", "--queue", "quorum", "--peers", "turbo,celery,null"),
    ("drain", "--results", "redis", "--peers", "turbo,celery"),
    ("drain", "--results", "rpc", "--peers", "turbo,celery"),
    ("drain", "--app", "celery"),
    ("drain", "--app", "celery", "--results", "redis"),
    ("latency",), ("memory",), ("startup",), ("scale",), ("fairness",), ("large",), ("waiting",), ("control",),
    ("rings",), ("trace",), ("enqueue",),
)  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = top.add_subparsers(dest="measure", required=True, metavar="MEASURE")
    for name, measure in MEASURES.items():
        command = commands.add_parser(name, help=measure.about)
        _options(command, measure)
    everything = commands.add_parser("all", help="every measure that the table of goals needs, then the report")
    everything.add_argument("--rounds", type=int, default=5, help="rounds of each (default: %(default)s)")
    report = commands.add_parser("report", help="write docs/benchmarks.md and its plots from the latest results")
    report.add_argument("--from", dest="source", type=Path, default=results.DIRECTORY)
    return top


def _options(command: argparse.ArgumentParser, measure: Measure) -> None:
    add = command.add_argument
    add("--peers", type=lambda text: text.split(","), default=[],
        help=f"comma-separated, of {', '.join(PEERS)} (default: {','.join(measure.peers)})")  # fmt: skip
    add("-c", "--concurrency", type=int, default=measure.concurrency, help="children (default: %(default)s)")
    add("--rounds", type=int, default=5, help="rounds, each contender once in each (default: %(default)s)")
    add("--tasks", type=int, default=0, help="tasks a round (default: the measure's own)")
    add("--fast-tasks", type=int, default=0, help="the same for the peers that are several times faster")
    add("--queue", choices=("classic", "quorum"), default="classic", help="type of the queue")
    add("--results", choices=("none", "redis", "rpc"), default="none", help="where results go (drain)")
    add("--app", choices=("turbo", "celery"), default="turbo",
        help="what turbo's worker's app is written with; with celery both workers run the same module")  # fmt: skip
    add("--prefetch-multiplier", type=int, default=None, help="worker_prefetch_multiplier of the app")
    add("--acks-late", action="store_true", help="task_acks_late of the app")
    add("--events", action="store_true", help="each worker without and with -E, and a queue of events (drain)")
    add("--rates", type=lambda text: [int(part) for part in text.split(",")], default=[200, 1000],
        help="messages a second (latency; default: 200,1000)")  # fmt: skip
    add("--seconds", type=float, default=10, help="seconds at each rate (latency; default: %(default)s)")
    add("--further", type=int, default=4, help="further children (memory; default: %(default)s)")
    add("--most", type=int, default=32, help="the larger concurrency (scale; default: %(default)s)")
    add("--size", type=int, default=1_000_000, help="bytes of the argument (large); of the record (rings: 200)")
    add("--one-in", type=int, default=100, help="one slow task in so many (fairness)")
    add("--fast", type=float, default=0.005, help="seconds of a fast task (fairness)")
    add("--slow", type=float, default=1.0, help="seconds of a slow task (fairness)")
    add("--turbo-option", action="append", default=[], metavar="WORD", help="further word for turbo's command")
    add("--output", type=Path, default=results.DIRECTORY, help="where the result file goes")


def _peers(args: argparse.Namespace) -> list[str]:
    """Whom to compare: as asked, or the measure's own; with a Celery app, the two workers that can run one."""
    if args.peers:
        return list(args.peers)
    return ["turbo", "celery"] if args.app == "celery" else list(MEASURES[args.measure].peers)


def _contenders(args: argparse.Namespace) -> list[Contender]:
    listed = []
    idle = {"null", "sketch"} if args.measure not in ("drain", "large", "trace-less", "latency") else set()
    if args.measure == "latency":
        idle = {"sketch"}
    if idle & set(args.peers):
        raise BenchError(f"{args.measure} needs workers that run tasks: {' and '.join(sorted(idle))} run none")
    for name in args.peers:
        extra = tuple(args.turbo_option) if name.startswith("turbo") else ()
        listed.append(contender(name, args.concurrency, extra, args.app, _settings(args)))
    if args.measure == "enqueue":
        return senders(listed)
    if args.events:
        workers = [each for each in listed if each.peer in ("turbo", "celery")]
        return workers + [replace(each, label=f"{each.label} -E", extra=(*each.extra, "-E")) for each in workers]
    if args.measure == "waiting":
        return [replace(each, label=f"{each.label} {kind}") for kind in (COROUTINES, "functions") for each in listed]
    if args.measure == "scale":
        few = [replace(each, label=f"{each.label} -c {each.concurrency}") for each in listed]
        many = [replace(each, concurrency=args.most, label=f"{each.label} -c {args.most}") for each in listed]
        return many + few
    return listed


def _settings(args: argparse.Namespace) -> AppSettings:
    return AppSettings(args.prefetch_multiplier, args.acks_late)


def _variant(args: argparse.Namespace) -> str:
    ours = "" if args.app == "turbo" else f"-{args.app}-app"
    asked = f"-{text}" if (text := str(_settings(args))) else ""
    if args.measure in ("drain", "trace-less"):
        return f"{args.results}-{args.queue}-c{args.concurrency}{ours}{'-events' if args.events else ''}{asked}"
    return args.queue + ours + asked if args.measure != "rings" else "shared-memory"


def run(args: argparse.Namespace) -> results.Run:
    """Run one measure as its command line says, and save it."""
    args.peers = _peers(args)
    versions = prepare(args.peers, args.app) if args.measure != "rings" else {}
    contenders = _contenders(args)
    with Servers() as servers:
        stage = Stage(servers, queue_type=args.queue, results=args.results)
        print(f"# {args.measure} {_variant(args)}", flush=True)
        measure = MEASURES[args.measure].run(args, stage)
        readings: Sequence[Reading] = alternate(contenders, args.rounds, measure)
    options: dict[str, Any] = {name: value for name, value in vars(args).items() if name not in ("output", "measure")}
    outcome = results.new(args.measure, _variant(args), versions, options, readings)
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
            print(f"    {each:<18}{shown:>12}{compared}")


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit status: 0 when every reading succeeded."""
    top = parser()
    args = top.parse_args(argv)
    try:
        if args.measure == "report":
            for path in write_report(args.source):
                print(f"written to {path}")
            return 0
        if args.measure == "all":
            words = ("--rounds", str(args.rounds))
            failures = sum(run(top.parse_args([*each, *words])).failures() for each in SUITE)
            write_report(results.DIRECTORY)
            return 1 if failures else 0
        return 1 if run(args).failures() else 0
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
