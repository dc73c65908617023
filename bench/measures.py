"""The measures by name: whom each compares, at which concurrency, and how one round of one contender goes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bench.contenders import IDLE, AppSettings, Contender, contender
from bench.control import control
from bench.drain import Load, drain
from bench.enqueue import enqueue, senders
from bench.fairness import Mix, fairness
from bench.idle import memory, startup
from bench.latency import latency
from bench.mixed import Flow, mixed
from bench.processes import BenchError
from bench.recover import recover
from bench.rings import rings
from bench.scale import scale
from bench.trace import trace
from bench.waits import Waits, waiting_tasks

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from bench.stage import Metrics, Stage

    Round = Callable[[Contender], Metrics]

#: Whose tasks are ``async def``, by the end of its label.
COROUTINES = "coroutines"


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure: whom it compares by default, its concurrency, and how one round of one contender goes."""

    about: str
    peers: tuple[str, ...]
    concurrency: int
    run: Callable[[argparse.Namespace, Stage], Round]


def _drain(args: argparse.Namespace, stage: Stage) -> Round:
    task = "noop" if args.results == "none" else "noop_result"
    # The same for all unless asked otherwise: a classic queue costs the broker more a message the longer it is.
    tasks = args.tasks or 30_000
    load = Load(task, (), tasks, args.fast_tasks or tasks)

    def once(each: Contender) -> Metrics:
        if args.events or "-E" in each.extra:
            stage.keep_events()
        return drain(stage, load, each)

    return once


def _large(args: argparse.Namespace, stage: Stage) -> Round:
    tasks = args.tasks or 1000
    load = Load("payload", ("x" * args.size,), tasks, tasks)
    return lambda each: drain(stage, load, each)


def _waiting(args: argparse.Namespace, stage: Stage) -> Round:
    tasks = args.tasks or 5000
    loads = {name: Load(name, (), tasks, tasks) for name in ("nap", "snooze")}
    return lambda each: drain(stage, loads["nap" if each.label.endswith(COROUTINES) else "snooze"], each)


def _scale(args: argparse.Namespace, stage: Stage) -> Round:
    return lambda each: scale(stage, args.tasks or 10_000, each)


def _io(args: argparse.Namespace, stage: Stage) -> Round:
    return lambda each: waiting_tasks(stage, waits(args), each)


def _mixed(args: argparse.Namespace, stage: Stage) -> Round:
    flow = Flow(args.rates[0], args.seconds, args.one_in, args.fast, args.slow or 0.5)
    return lambda each: mixed(stage, flow, each)


def _recover(args: argparse.Namespace, stage: Stage) -> Round:
    return lambda each: recover(stage, args.kills, args.victim, each)


def _latency(args: argparse.Namespace, stage: Stage) -> Round:
    return lambda each: latency(stage, tuple(args.rates), args.seconds, each)


def _memory(args: argparse.Namespace, stage: Stage) -> Round:
    return lambda each: memory(stage, args.further, each)


def _startup(args: argparse.Namespace, stage: Stage) -> Round:
    warmed: set[str] = set()

    def once(each: Contender) -> Metrics:
        if each.label not in warmed:
            startup(stage, each)  # compiles and caches files
            warmed.add(each.label)
        return startup(stage, each)

    return once


def _control(args: argparse.Namespace, stage: Stage) -> Round:
    tasks, fast = args.tasks or 20_000, args.fast_tasks or args.tasks or 100_000
    return lambda each: control(stage, fast if each.peer.startswith("turbo") else tasks, each)


def _fairness(args: argparse.Namespace, stage: Stage) -> Round:
    mix = Mix(args.tasks or 2000, args.one_in, args.fast, args.slow or 1.0)
    return lambda each: fairness(stage, mix, each)


def _rings(args: argparse.Namespace, stage: Stage) -> Round:
    return lambda each: rings(args.tasks or 200_000, 200 if args.size == 1_000_000 else args.size)


def _trace(args: argparse.Namespace, stage: Stage) -> Round:
    return lambda each: trace(stage, args.tasks or 20_000, each)


def _enqueue(args: argparse.Namespace, stage: Stage) -> Round:
    return lambda each: enqueue(stage, args.tasks or 5000, each)


_IO_PEERS = (
    "turbo", "turbo+threads", "turbo+coroutines", "celery", "celery-threads", "dramatiq+threads", "taskiq+coroutines",
)  # fmt: skip
MEASURES = {
    "drain": Measure("empty a queue of no-op tasks", ("turbo", "celery", "dramatiq", "null"), 2, _drain),
    "latency": Measure("publish to start at steady rates", ("turbo", "celery", "null"), 2, _latency),
    "memory": Measure("PSS of the idle worker", ("turbo", "celery"), 2, _memory),
    "startup": Measure("command to first task done", ("turbo", "celery"), 2, _startup),
    "fairness": Measure("fast tasks behind slow ones", ("turbo", "celery"), 4, _fairness),
    "mixed": Measure("p99 of short tasks among long ones at a steady rate", ("turbo", "celery"), 8, _mixed),
    "io": Measure("tasks that wait 10 ms to 1 s, 50 at once", _IO_PEERS, 50, _io),
    "recover": Measure("what is lost and how long it takes after SIGKILL",
                       ("turbo", "celery", "turbo+requeue", "celery+requeue"), 2, _recover),
    "control": Measure("inspect ping at full load", ("turbo", "celery"), 2, _control),
    "rings": Measure("the rings alone", ("turbo",), 1, _rings),
    "scale": Measure("what many children cost: start, memory, time per task", ("turbo",), 2, _scale),
    "large": Measure("large messages", ("turbo", "celery"), 2, _large),
    "waiting": Measure("tasks that wait 5 ms: coroutines beside functions", ("turbo",), 2, _waiting),
    "trace": Measure("decode and trace a no-op task in a child", ("turbo", "celery"), 1, _trace),
    "enqueue": Measure("calls of delay a second from one process", ("turbo", "celery"), 1, _enqueue),
    "trace-less": Measure("turbo beside its transport without decoding and tracing",
                          ("turbo", "sketch", "null"), 2, _drain),
}  # fmt: skip

#: The measures in which a consumer that runs no task has a place, and which.
_IDLE_MAY = {"drain": IDLE, "large": IDLE, "trace-less": IDLE, "latency": frozenset({"null"})}


def waits(args: argparse.Namespace) -> Waits:
    """The load of the measure ``io``."""
    return Waits(args.tasks or 1000, args.shortest, args.longest)


def peers_of(args: argparse.Namespace) -> list[str]:
    """Whom to compare: as asked, or the measure's own; with a Celery app, the two workers that can run one."""
    if args.peers:
        return list(args.peers)
    return ["turbo", "celery"] if args.app == "celery" else list(MEASURES[args.measure].peers)


def contenders_of(args: argparse.Namespace) -> list[Contender]:
    """The contenders that the command line asks for."""
    refused = IDLE - _IDLE_MAY.get(args.measure, frozenset())
    if refused & set(args.peers):
        raise BenchError(f"{args.measure} needs workers that run tasks: {' and '.join(sorted(refused))} run none")
    listed = []
    for name in args.peers:
        extra = tuple(args.turbo_option) if name.startswith("turbo") else ()
        listed.append(contender(name, args.concurrency, extra, args.app, settings_of(args)))
    if args.measure == "enqueue":
        return senders(listed)
    if args.events:
        workers = [each for each in listed if each.peer.startswith(("turbo", "celery"))]
        return workers + [replace(each, label=f"{each.label} -E", extra=(*each.extra, "-E")) for each in workers]
    if args.measure == "waiting":
        return [replace(each, label=f"{each.label} {kind}") for kind in (COROUTINES, "functions") for each in listed]
    if args.measure == "scale":
        numbers = [*args.many, args.concurrency]
        return [replace(each, concurrency=many, label=f"{each.label} -c {many}") for many in numbers for each in listed]
    return listed


def settings_of(args: argparse.Namespace) -> AppSettings:
    """The app's settings that the command line asks for."""
    return AppSettings(args.prefetch_multiplier, args.acks_late)


def variant_of(args: argparse.Namespace) -> str:
    """What tells this run from others of the same measure."""
    if args.measure == "rings":
        return "shared-memory"
    words = [args.queue]
    if args.measure in ("drain", "trace-less"):
        words = [args.results, args.queue, f"c{args.concurrency}"]
    elif args.measure == "io":
        words = [args.queue, f"c{args.concurrency}", str(waits(args))]
    elif args.measure == "recover":
        words = [args.victim, args.queue]
    if args.app != "turbo":
        words.append(f"{args.app}-app")
    if args.events:
        words.append("events")
    if asked := str(settings_of(args)):
        words.append(asked)
    return "-".join(words)
