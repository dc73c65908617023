"""Every line that Celery's worker writes at INFO and above, and those it prints: which of them this worker has.

The table is complete for the installed Celery: its source is searched. The lines of a shutdown are compared with those
of a real Celery worker.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.compat.conftest import CELERY, READY
from tests.harness.processes import wait_until
from tests.harness.worker import TURBO, WorkerProcess

_MODULES = (
    "celery.apps.worker", "celery.app.trace", "celery.worker.consumer.connection", "celery.worker.consumer.consumer",
    "celery.worker.consumer.tasks", "celery.worker.consumer.mingle", "celery.worker.consumer.gossip",
    "celery.worker.control", "celery.worker.loops", "celery.worker.pidbox", "celery.worker.request",
    "celery.worker.strategy", "celery.worker.worker", "celery.worker.autoscale", "celery.worker.components",
)  # fmt: skip
#: Where a line begins with one of these, this worker's line on that occasion does so as well.
SAME = (
    "worker: {how} shutdown (MainProcess)", "worker: Hitting Ctrl+C again will", "Waiting gracefully for cold shutdown",
    "Initiating Soft Shutdown, terminating in", "%s ready.", "Unrecoverable error: %r", "Connected to %s",
    "consumer: Connection to broker lost.", "Received and deleted unknown message.",
    "Received unregistered task of type %s.", "Received invalid task message: %s", "Can't decode message body:",
    "Task %(name)s[%(id)s]", "Discarding revoked task: %s[%s]", "Soft time limit (%ss) exceeded for %s[%s]",
    "Hard time limit (%ss) exceeded for %s[%s]", "Task handler raised error: %r", "Task %s[%s] retry: %s",
    "Terminating %s (%s)", "Tasks flagged as revoked: %s", "Events of group {task} enabled by remote.",
    "Started consuming from %s", "Canceling queue %s", "Scaling up %s processes.", "Scaling down %s processes.",
    "Events of group {task} disabled by remote.", "Got shutdown from remote", "purge: ",
    "Dumping graph for type %",
)  # fmt: skip
#: Lines of occasions that this worker has not, or on which it says something else; and why.
OTHER = {
    "Restarting celery worker": "the command that restarts is turbo's, and is named",
    "{sig} not supported": "macOS",
    "consumer: Cannot connect to %s": "turbo.amqp's own line says more; see there",
    "Trying again": "as above",
    "Will retry using next failover": "as above",
    "Please run `celery upgrade settings": "old names of settings are named one by one",
    "Autoscaler": "busy children stay without a line",
    "Timer error": "no timers of Celery's",
    "The worker_pool": "one pool",
    "worker_concurrency": "concurrency is a number",
    "using available cpus": "concurrency is a number",
    "Rate limit": "no rate limits",
    "New rate limit": "no rate limits",
    "Change time limit attempt": "limits are not changed by remote control",
    "New time limits": "limits are not changed by remote control",
    "sync with %s": "no mingle",
    "mingle": "no mingle",
    "No such control command": "kombu answers first: pidbox command error",
    "Control command error": "kombu answers first: pidbox command error",
    "pidbox: Connected": "one connection serves remote control, and says Connected",
    "Failed to mark task": "by the installed Celery's own code",
    "Failed to retry task": "the publisher sends the next attempt and logs its outcome",
    "Task %s[%s] succeeded before": "said of every outcome that is stored: Child %d ended in the handlers",
    "Couldn't convert ETA": "a message without a readable ETA is invalid, and so named",
    "call_soon_ack": "acknowledgements are not calls",
    "Pending callback": "no pending callbacks",
    "Temporarily reducing the prefetch": "the window is not reduced after a reconnect",
    "Skipping prefetch": "as above",
    "Resuming normal operations": "as above",
    "Failed to cancel active request": "running tasks run on after a lost connection",
    "Task %s cannot be acknowledged after": "as above",
    "In Celery 5.1": "as above",
    "Global QoS is disabled": "the window is always the consumer's own, and not static",
    "worker_disable_prefetch": "named when the worker starts",
    "I won the election": "no gossip", "node %s elected": "no gossip", "missed heartbeat": "no gossip",
    "Unknown election": "no gossip", "Could not call task": "no gossip", "election request": "no gossip",
    "Failed to dispatch chain": "adopted apps alone: Celery's own tracer says it",
    "Ignored error from handler": "no gossip",
    "Process cleanup failed": "adopted apps alone: Celery's own tracer says it",
    "Frequent restarts detected": "the pauses between connections grow instead",
    "Retrying to {": "turbo.amqp's own line says more; see there",
    "Too many open files": "the worker goes on, and the line about the connection names the reason",
    "Error cancelling ETA timer": "no timers of Celery's",
    "Error cancelling hub timer": "no event loop of kombu's",
    "Error cleaning up after": "no event loop of kombu's",
    "%s joined": "no gossip", "%s left": "no gossip",
    "Task %s": "of Celery's own code about one task, in adopted apps",
}  # fmt: skip
_LEVELS = {"info", "warn", "warning", "error", "critical", "crit", "exception", "safe_say"}


def _texts(module: str) -> list[str]:
    """The first argument of every call that logs or prints, where it is text that can be known."""
    source = importlib.import_module(module)
    found = []
    for node in ast.walk(ast.parse(inspect.getsource(source))):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        called = node.func
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        if name not in _LEVELS or (isinstance(called, ast.Attribute) and getattr(called.value, "id", "") != "logger"):
            continue
        first = node.args[0]
        if isinstance(first, ast.Name) and isinstance(getattr(source, first.id, None), str):
            found.append(getattr(source, first.id))
        elif isinstance(first, ast.Constant) and isinstance(first.value, str):
            found.append(first.value)
        elif isinstance(first, ast.JoinedStr):
            found.append(ast.unparse(first)[2:-1])
    return [text for text in found if re.search(r"[A-Za-z]{4}", re.sub(r"%\(?\w*\)?\w", "", text))]


@pytest.mark.row("LG16")
@pytest.mark.parametrize("module", _MODULES)
def test_each_line_of_celerys_worker_has_been_decided_about(module: str) -> None:
    lines = _texts(module)
    assert [line for line in lines if not line.startswith((*SAME, *OTHER))] == []


@pytest.mark.row("LG16")
def test_what_celerys_worker_writes_is_written_here() -> None:
    """Each beginning stands in this worker's source, word for word but for how the task is named."""
    source = "".join(path.read_text() for path in (Path(__file__).parents[2] / "turbo").rglob("*.py"))
    source = source.replace("worker: Warm shutdown", "worker: {how} shutdown")
    for line in SAME:
        plain = line.replace("%s[%s]", "%s").replace("%(name)s[%(id)s]", "%s").replace("type %s", "type '%s'")
        assert plain in source, line


_APP = """
import time
if {lib!r} == "celery":
    from celery import Celery, signals
else:
    from turbo import Celery, signals
app = Celery("lines", broker={broker!r})
app.conf.update(worker_soft_shutdown_timeout={soft}, task_default_queue={queue!r}, worker_hijack_root_logger=True)

@app.task(name="nap", acks_late=True)
def nap(seconds):
    print("napping")
    time.sleep(seconds)

@signals.worker_shutdown.connect(weak=False)
def shutdown(**_):
    time.sleep(2.5)
    print("the worker has shut down")

@signals.worker_process_shutdown.connect(weak=False)
def process_shutdown(**_):
    print("a process has shut down")
"""
#: What is compared: the lines of a shutdown, and what receivers print.
_LINES = re.compile(
    r"worker: .*(?:shutdown \(MainProcess\)|tasks!)|Initiating Soft.*seconds|Waiting gracefully.*|Got shutdown.*"
    r"|WARNING/MainProcess\] the worker has shut down|WARNING/ForkPoolWorker-\d\] a process has shut down"
)
_SIGNALS = {
    "int-int": (signal.SIGINT, signal.SIGINT),
    "soft": (signal.SIGQUIT,),
    "remote": (),
}


def _written(tmp_path: Path, broker: str, lib: str, command: tuple[str, ...], way: str) -> set[str]:
    place = tmp_path / f"{lib}-{command[-1]}"
    place.mkdir()
    soft = 2 if way == "soft" else 0
    (place / "lines_app.py").write_text(_APP.format(lib=lib, broker=broker, queue=place.name, soft=soft))
    node = f"{place.name}@here"
    options = ("-A", "lines_app", *(("worker",) if command == CELERY else ()), "-c", "2", "-l", "info", "-n", node)
    # Two seconds are more than the rest of the worker waits for anything that is not to be done.
    with WorkerProcess(*options, directory=place, command=command, env={"C_FORCE_ROOT": "1"}) as worker:
        worker.wait_for_line(READY, 60)
        _send(place, 1.0 if way == "remote" else 30.0)
        worker.wait_for_line("napping", 60)
        if way == "remote":
            _run(place, f"app.control.shutdown(destination=[{node!r}])")
        for count, number in enumerate(_SIGNALS[way]):
            mark = worker.mark()
            worker.send_signal(number)
            if count + 1 < len(_SIGNALS[way]):
                # Celery names the next Ctrl+C before it takes it, and this after.
                worker.wait_for_line("worker: Warm shutdown", since=mark)
        worker.wait(60)
        wait_until("its output", lambda: worker.ended, 60)
        return {re.sub(r"\d\]", "N]", found.group()) for found in _LINES.finditer(worker.output)}


def _send(place: Path, seconds: float) -> None:
    _run(place, f"app.send_task('nap', ({seconds},))")


def _run(place: Path, line: str) -> None:
    script = f"from lines_app import app\n{line}\n"
    with WorkerProcess("-c", script, directory=place, command=(CELERY[0],)) as client:
        assert client.wait(60) == 0, client.output


@pytest.mark.row("LG16", "SG13", "SG14")
@pytest.mark.parametrize("way", _SIGNALS)
def test_a_shutdown_reads_like_celerys(way: str, tmp_path: Path, vhost: str) -> None:
    workers = (("celery", CELERY), ("celery", TURBO), ("turbo", TURBO))
    with ThreadPoolExecutor() as threads:
        written = threads.map(lambda worker: _written(tmp_path, vhost, *worker, way), workers)
        celerys, adopted, native = written
    assert adopted == native
    # Celery sends worker_shutdown at a warm shutdown alone; here the receivers have run at every one.
    assert {line for line in adopted if "the worker has shut down" not in line} == {
        line for line in celerys if "the worker has shut down" not in line
    }
    assert any("the worker has shut down" in line for line in adopted)
