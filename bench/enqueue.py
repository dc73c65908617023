"""How many times a second an ordinary process can call ``delay``, with and without the broker's confirms.

One producer in one thread, nobody consuming, persistent messages to a durable queue. The broker runs beside the
producer and sets the pace of whoever waits for its confirms: it writes a message to disk before it confirms it.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

from bench import environments
from bench.contenders import APPS, ROOT
from bench.processes import BenchError, clean_environment, wait_until

if TYPE_CHECKING:
    from bench.contenders import Contender
    from bench.stage import Metrics, Stage

#: How each peer sends, by what follows its name in the label.
MODES = {"turbo": ("pipeline", "confirmed", "unconfirmed"), "celery": ("unconfirmed", "confirmed")}


def senders(peers: list[Contender]) -> list[Contender]:
    """Each peer in each way in which it can send."""
    for each in peers:
        if each.peer not in MODES:
            raise BenchError(f"enqueue compares turbo and celery alone, not {each.peer}")
    return [replace(each, label=f"{each.label} {mode}") for each in peers for mode in MODES[each.peer]]


def enqueue(stage: Stage, calls: int, each: Contender) -> Metrics:
    """One round of one contender: calls a second, and microseconds of the producer's processor time a call."""
    with stage.wire() as wire:
        stage.fresh_queue(wire, each)
        ours = each.peer == "turbo"
        python = environments.turbo_python() if ours else environments.python_of("celery")
        path = f"{APPS}:{ROOT}" if ours else str(APPS)
        run = subprocess.run(
            [python, APPS / "enqueue_producer.py", str(calls), each.label.rpartition(" ")[2]],
            env={**clean_environment(), **stage.environment(each), "PYTHONPATH": path}, cwd=APPS,
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        if run.returncode != 0:
            raise BenchError(f"sending with {each.label} failed:\n{run.stdout[-500:]}{run.stderr[-2000:]}")
        told = json.loads(run.stdout)
        wait_until(f"all messages of {each.label} arrived", lambda: wire.depth(each.queue) == told["sent"], 30)
        wire.delete(each.queue)
    return {"calls_per_s": calls / told["seconds"], "cpu_us_per_call": told["processor"] / calls * 1e6}
