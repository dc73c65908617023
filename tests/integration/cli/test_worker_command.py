"""``turbo worker`` as an operator meets it: a real process, a real broker."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

import pytest

from tests.harness.processes import free_port, wait_until
from tests.harness.worker import WorkerProcess
from turbo import Turbo

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TASKS = """
from turbo import Turbo
from turbo.utils.log import get_task_logger

app = Turbo("shop", backend="rpc://")
logger = get_task_logger(__name__)

@app.task(name="shop.shout")
def shout(text):
    print("printed " + text)
    logger.warning("logged %s", text)
    return text.upper()
"""
READY = r"ready\.$"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory with the app in it, as a user has one."""
    (tmp_path / "tasks.py").write_text(TASKS)
    return tmp_path


@pytest.fixture
def producer(vhost: str) -> Iterator[Turbo]:
    """A client that has the tasks' names only."""
    app = Turbo("producer", broker=vhost, backend="rpc://", set_as_current=False)
    yield app
    app.close()


def worker(project: Path, vhost: str, *options: str) -> WorkerProcess:
    return WorkerProcess("-b", vhost, "-c", "1", "-l", "info", *options, directory=project)


@pytest.mark.row("CL2", "CL25", "LG15", "LG9", "LG8")
def test_it_finds_the_app_runs_a_task_and_ends_warm(project: Path, vhost: str, producer: Turbo) -> None:
    with worker(project, vhost) as process:
        process.wait_for_line(r"app +tasks:app \(tasks.py in this directory\)")
        process.wait_for_line(r"broker +amqp://.*:\*\*@127\.0\.0\.1")
        process.wait_for_line(READY)
        assert producer.send_task("shop.shout", ["hello"]).get(timeout=60) == "HELLO"
        process.wait_for_line(r"INFO/MainProcess\] Task shop\.shout\[[0-9a-f-]{36}\] received$")
        process.wait_for_line(
            r"INFO/ForkPoolWorker-1\] Task shop\.shout\[[0-9a-f-]{36}\] succeeded in [\d.]+s: 'HELLO'"
        )
        process.terminate()
        assert process.wait() == 0


@pytest.mark.row("CL25")
def test_interrupt_ends_it_with_one(project: Path, vhost: str) -> None:
    with worker(project, vhost) as process:
        process.wait_for_line(READY)
        process.send_signal(signal.SIGINT)
        assert process.wait() == 1


@pytest.mark.row("LG2", "LG3", "LG4")
def test_what_a_task_prints_and_logs_says_who_and_which(project: Path, vhost: str, producer: Turbo) -> None:
    with worker(project, vhost) as process:
        process.wait_for_line(READY)
        sent = producer.send_task("shop.shout", ["twice"])
        assert sent.get(timeout=60) == "TWICE"
        process.wait_for_line(rf"^\[[-\d :,]+: WARNING/ForkPoolWorker-1\] shop\.shout\[{sent.id}\]: logged twice$")
        process.wait_for_line(r"^\[[-\d :,]+: WARNING/ForkPoolWorker-1\] (\S+: )?printed twice$")


@pytest.mark.row("CL7", "LG1", "LG13", "PL26")
def test_each_process_has_its_log_file(project: Path, vhost: str, producer: Turbo) -> None:
    with worker(project, vhost, "-n", "w1@%h", "-f", "%n%I.log", "--pidfile", "%n.pid") as process:
        log, child_log, pidfile = (project / name for name in ("w1.log", "w1-1.log", "w1.pid"))
        process.wait_for_line(r"queues")
        assert producer.send_task("shop.shout", ["hello"]).get(timeout=60) == "HELLO"
        assert pidfile.read_text() == f"{process.pid}\n"
        process.terminate()
        assert process.wait() == 0
    assert "Task shop.shout" in log.read_text()
    assert "logged hello" in child_log.read_text()
    assert "logged hello" not in log.read_text()
    assert not pidfile.exists()


@pytest.mark.row("CL7", "P32")
def test_a_second_worker_with_the_same_pidfile_is_refused(project: Path, vhost: str) -> None:
    with worker(project, vhost, "--pidfile", "pid") as first:
        first.wait_for_line(READY)
        with worker(project, vhost, "--pidfile", "pid") as second:
            second.wait_for_line(rf"held by a running worker \(pid {first.pid}\)")
            assert second.wait() == 73
        first.kill()
        first.wait()
        with worker(project, vhost, "--pidfile", "pid") as third:
            third.wait_for_line(READY)
            third.terminate()
            assert third.wait() == 0


@pytest.mark.row("CL4", "CN16")
def test_only_the_queues_asked_for_are_consumed(project: Path, vhost: str, producer: Turbo) -> None:
    other = producer.send_task("shop.shout", ["other"], queue="other")
    with worker(project, vhost, "-Q", "mine,other", "-X", "other") as process:
        process.wait_for_line(READY)
        assert producer.send_task("shop.shout", ["mine"], queue="mine").get(timeout=60) == "MINE"
        assert not other.ready()
        process.terminate()
        assert process.wait() == 0
    with worker(project, vhost, "-Q", "other") as process:
        assert other.get(timeout=60) == "OTHER"


QUEUES = """
from kombu import Queue
from {library} import Celery

app = Celery("queues")
app.conf.task_queues = [Queue("images", alias="i"), Queue("videos")]
app.conf.task_create_missing_queues = False
"""


@pytest.mark.row("CL4")
@pytest.mark.parametrize("library", ["turbo", "celery"])
def test_queues_that_do_not_exist_are_named(tmp_path: Path, vhost: str, library: str) -> None:
    (tmp_path / "tasks.py").write_text(QUEUES.format(library=library))
    with worker(tmp_path, vhost, "-X", "vidoes,i") as process:
        process.wait_for_line("-X vidoes excludes nothing: there is no such queue; did you mean 'videos'?")
        process.wait_for_line(READY)
        assert "-X i " not in process.output
        assert re.search(r"^ *queues +videos ", process.output, re.M)
    with worker(tmp_path, vhost, "-Q", "vidoes") as process:
        process.wait_for_line("cannot consume from a queue that is not in task_queues: .*vidoes")
        assert process.wait() == 1


@pytest.mark.row("CL16", "CN27")
def test_purge_forgets_what_waited(project: Path, vhost: str, producer: Turbo) -> None:
    waiting = producer.send_task("shop.shout", ["old"])
    with worker(project, vhost, "--purge") as process:
        process.wait_for_line(READY)
        assert producer.send_task("shop.shout", ["new"]).get(timeout=60) == "NEW"
        assert not waiting.ready()


@pytest.mark.parametrize("make", ["turbo", "celery"])
def test_the_embedded_broker_listens_where_the_apps_url_points(tmp_path: Path, make: str) -> None:
    url = f"amqp://localhost:{free_port()}/site"
    write_shouting_app(tmp_path, make, url)
    with WorkerProcess("--embedded-broker", "-c", "1", "-l", "info", directory=tmp_path) as process:
        process.wait_for_line(r"it listens on port \d+, as the app's broker URL says")
        process.wait_for_line(READY)
        assert shouted(url) == "HELLO"
        process.terminate()
        assert process.wait() == 0


@pytest.mark.parametrize("make", ["turbo", "celery"])
def test_the_embedded_broker_of_an_app_with_another_says_what_to_paste(tmp_path: Path, vhost: str, make: str) -> None:
    write_shouting_app(tmp_path, make, vhost)  # somebody listens there
    with WorkerProcess("--embedded-broker", "-c", "1", "-l", "info", directory=tmp_path) as process:
        url = process.wait_for_line(r"run there: export CELERY_BROKER_URL=(amqp://\S+)$")[1]
        process.wait_for_line(READY)
        assert shouted(url) == "HELLO"
        process.terminate()
        assert process.wait() == 0


def write_shouting_app(directory: Path, make: str, url: str) -> None:
    """``tasks.py`` with an app of turbo's or of Celery's own, whose URL that is."""
    first = "from turbo import Turbo as App" if make == "turbo" else "from celery import Celery as App"
    (directory / "tasks.py").write_text(
        f"{first}\napp = App('tasks', broker={url!r}, backend='rpc://')\n"
        "@app.task(name='shop.shout')\ndef shout(text):\n    return text.upper()\n"
    )


def shouted(url: str) -> str:
    """What the task makes of "hello", asked by a client at that URL."""
    client = Turbo(broker=url, backend="rpc://", set_as_current=False)
    try:
        return str(client.send_task("shop.shout", ["hello"]).get(timeout=60))
    finally:
        client.close()


def test_a_setting_that_must_not_be_ignored_stops_it(project: Path, vhost: str) -> None:
    with (project / "tasks.py").open("a") as file:
        file.write("\napp.conf.task_protocol = 1\n")
    with worker(project, vhost) as process:
        process.wait_for_line(r"turbo worker: task_protocol=1 is not supported")
        assert process.wait() == 1


@pytest.mark.row("PL24")
def test_solo_is_one_child_and_says_so(project: Path, vhost: str) -> None:
    with worker(project, vhost, "-P", "solo", "-c", "4") as process:
        process.wait_for_line(r"-c 4 without effect: -P solo is one child")
        process.wait_for_line(r"ready")
        process.terminate()
        assert process.wait() == 0
    process.wait_for_line(r"children +1$")


@pytest.mark.row("PL24")
def test_an_app_with_green_threads_is_refused_by_name(project: Path, vhost: str) -> None:
    """A stand-in for gevent: all that is looked at is what its module says that it has patched."""
    package = project / "gevent"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "monkey.py").write_text("saved = {}\n\ndef patch_all():\n    saved['socket'] = {}\n")
    app = project / "patched.py"
    app.write_text("from gevent import monkey\nmonkey.patch_all()\nfrom turbo import Turbo\napp = Turbo('patched')\n")
    with WorkerProcess("-A", "patched", "-b", vhost, "-c", "1", directory=project) as process:
        assert process.wait(60) == 1
        (line,) = [line for line in process.output.splitlines() if line]
        assert line.startswith("turbo worker: gevent has patched the standard library (socket)")


BATCHES = """
from {library} import Celery, Task

app = Celery("batches")


class Batches(Task):
    abstract = True
    Strategy = "tasks:collecting"


def collecting(task, app, consumer, **_):
    raise AssertionError


@app.task(name="count", base=Batches)
def count(requests):
    pass


@app.task(name="slow", rate_limit="1/s")
def slow():
    pass
"""


@pytest.mark.row("HA12")
@pytest.mark.parametrize("library", ["turbo", "celery"])
def test_a_task_that_takes_messages_on_by_itself_stops_it(tmp_path: Path, vhost: str, library: str) -> None:
    (tmp_path / "tasks.py").write_text(BATCHES.format(library=library))
    with worker(tmp_path, vhost) as process:
        process.wait_for_line(r"task count defines Strategy")
        assert process.wait() == 1


@pytest.mark.row("TM15", "TD18")
@pytest.mark.parametrize("library", ["turbo", "celery"])
def test_a_rate_limit_that_cannot_be_read_stops_it(tmp_path: Path, vhost: str, library: str) -> None:
    text = BATCHES.format(library=library).replace('Strategy = "tasks:collecting"', "pass")
    (tmp_path / "tasks.py").write_text(text.replace("1/s", "1/d"))
    with worker(tmp_path, vhost) as process:
        process.wait_for_line(r"rate_limit='1/d' of task slow: unknown unit 'd'")
        assert process.wait() == 1


@pytest.mark.row("EC10")
def test_the_heartbeat_file_is_touched_while_the_worker_consumes(project: Path, vhost: str) -> None:
    file = project / "alive.alive"
    with worker(project, vhost, "-n", "alive@here", "--heartbeat-file", "%n.alive") as process:
        process.wait_for_line(READY)
        wait_until("the file is there", file.exists, 60)
        for _ in range(2):
            before = file.stat().st_mtime_ns
            wait_until("the file is touched", lambda before=before: file.stat().st_mtime_ns > before, 60)
        process.terminate()
        assert process.wait() == 0
    assert not file.exists()


def test_a_heartbeat_file_that_cannot_be_written_stops_it(project: Path, vhost: str) -> None:
    with worker(project, vhost, "--heartbeat-file", "/nonexistent/alive") as process:
        process.wait_for_line(r"turbo worker: --heartbeat-file: .*No such file or directory")
        assert process.wait() == 1
