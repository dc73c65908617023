"""What an adopted app logs, and where: line by line what ``celery worker`` writes for the same app."""

from __future__ import annotations

import json
import re
from operator import itemgetter
from pathlib import Path

import pytest

from tests.harness.processes import wait_until
from tests.harness.worker import WorkerProcess
from tests.integration.adopted.place import Place

APP = """
import logging
import sys
import time
from celery.utils.log import get_task_logger

app.conf.update(json.loads(os.environ["CONF"]))
logger = get_task_logger("proj.tasks")
plain = logging.getLogger("somewhere.else")

if os.environ.get("OWN") == "handler":
    own = logging.StreamHandler(sys.stderr)
    own.setFormatter(logging.Formatter("own %(levelname)s %(processName)s %(name)s %(message)s"))
    logging.getLogger().addHandler(own)
    logging.getLogger().setLevel(logging.INFO)

if os.environ.get("OWN") == "everything":
    @signals.setup_logging.connect
    def mine(loglevel, logfile, format, colorize, **_):
        record("setup_logging", loglevel=loglevel, logfile=logfile, format=format, colorize=colorize)
        logging.basicConfig(level=loglevel, format="mine %(levelname)s %(processName)s %(name)s %(message)s")

CHANGING = ("runtime", "hostname", "traceback")

class Data(logging.Handler):
    def emit(self, one):
        record("data", **{name: value for name, value in one.data.items() if name not in CHANGING})

logging.getLogger("celery.worker.strategy").addHandler(Data())
logging.getLogger("celery.app.trace").addHandler(Data())

@signals.after_setup_logger.connect
def after(logger, loglevel, logfile, format, colorize, **_):
    record("after_setup_logger", logger=logger.name, loglevel=loglevel, logfile=logfile, format=format, colour=colorize)

@signals.after_setup_task_logger.connect
def after_task(logger, loglevel, logfile, format, colorize, **_):
    record("after_setup_task_logger", logger=logger.name, loglevel=loglevel, format=format, colour=colorize)

@app.task(name="proj.say")
def say():
    logger.debug("not shown")
    logger.info("of the task")
    plain.warning("of another\\nin two lines")
    print("printed")
    print("to stderr", file=sys.stderr)
    sys.stdout.write("written\\n")
    sys.stdout.flush()

@app.task(name="proj.fail")
def fail():
    raise ValueError("as it should")
"""
_CHANGING = (
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}", "TIME"),
    (r"[\d.e-]+s: ", "SECONDS: "),
    (r"0x[0-9a-f]+", "ADDRESS"),
    (r"w[tc]@box", "HOST"),
)
SHORT = "%(levelname)s|%(processName)s|%(name)s|%(message)s"
TASK = "%(asctime)s %(levelname)s|%(processName)s|%(task_name)s|%(task_id)s|%(message)s"


def lines(text: str) -> list[str]:
    """The lines of a log, without what changes from run to run."""
    found = []
    for line in text.splitlines():
        for pattern, name in _CHANGING:
            line = re.sub(pattern, name, line)
        found.append(line)
    return found


def of_tasks(text: str) -> list[str]:
    """The lines from the first that concerns a task to the last of a task's end; of tracebacks, the frames left out."""
    found = [line for line in lines(text) if not line.startswith("  ")]
    first = next(i for i, line in enumerate(found) if "proj.say[" in line and "received" in line)
    last = max(i for i, line in enumerate(found) if "ValueError: as it should" in line)
    return sorted(found[first : last + 1])


def _logs_failure(place: Place, prefix: str) -> bool:
    files = Path(place.directory).glob(f"{prefix}-*.log")
    return any("ValueError: as it should" in path.read_text() for path in files)


def run(place: Place, options: tuple[str, ...], env: dict[str, str]) -> dict[str, WorkerProcess]:
    """Both workers at once, each with the same tasks."""
    with (
        place.worker("-c", "1", "-n", "wt@box", "-Q", "wt", *options, by="turbo", env=env) as turbo,
        place.worker("-c", "1", "-n", "wc@box", "-Q", "wc", *options, by="celery", env=env) as celery,
    ):
        found = {"turbo": turbo, "celery": celery}
        for worker in found.values():
            if "-f" not in options:
                worker.wait_for_line(r"ready\.")
        for by, worker in found.items():
            queue = f"w{by[0]}"
            say = place.client.send_task("proj.say", queue=queue, task_id="say")
            say.get(timeout=60)
            say.forget()
            fail = place.client.send_task("proj.fail", queue=queue, task_id="fail")
            fail.get(timeout=60, propagate=False)
            fail.forget()
            if "-f" not in options:
                worker.wait_for_line(r"^ValueError: as it should")
            else:
                # The result is stored before the line is written.
                wait_until("the failure is logged", lambda queue=queue: _logs_failure(place, queue), 60)  # type: ignore[misc]
            worker.terminate()
            assert worker.wait() == 0
    return found


@pytest.mark.row("LG1", "LG2", "LG3", "LG4", "LG6", "LG7", "LG8", "LG9", "SG17", "CF20")
@pytest.mark.parametrize(
    ("conf", "own"),
    [
        ({}, ""),
        (
            {
                "worker_log_format": SHORT,
                "worker_task_log_format": TASK,
                "worker_task_log_datefmt": "day",
                "worker_redirect_stdouts_level": "ERROR",
            },
            "",
        ),
        ({"worker_hijack_root_logger": False, "worker_redirect_stdouts": False}, "handler"),
        ({}, "everything"),
    ],
    ids=["default", "formats", "own handler", "setup_logging"],
)
def test_the_lines_are_those_of_celery_worker(place: Place, conf: dict[str, object], own: str) -> None:
    place.write(APP)
    workers = run(place, (), {"CONF": json.dumps(conf), "OWN": own})
    assert of_tasks(workers["turbo"].output) == of_tasks(workers["celery"].output)
    # What the master and its child write at the same time comes in any order.
    ours, theirs = (sorted(place.recorded(make), key=itemgetter(0)) for make in ("turbo", "celery"))
    assert ours == theirs


@pytest.mark.row("CL7", "LG13")
def test_each_process_writes_into_the_file_that_celery_would_give_it(place: Place) -> None:
    place.write(APP)
    run(place, ("-f", "%n-%h-%d-%p%I.%i.log"), {"CONF": "{}"})

    def files(prefix: str) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for path in sorted(Path(place.directory).glob(f"{prefix}-*.log")):
            name = path.name.replace(prefix, "NODE")
            found[name] = [line for line in lines(path.read_text()) if "ForkPoolWorker" in line]
        return found

    ours, theirs = files("wt"), files("wc")
    assert list(ours) == list(theirs)
    assert ours == theirs
    assert any(ours.values())
