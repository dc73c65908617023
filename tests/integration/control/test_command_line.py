"""``turbo inspect``, ``control``, ``status`` and the other clients' commands, for apps of both kinds."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness.celery_env import celery_python, own_environment
from tests.harness.processes import free_port, wait_until
from tests.harness.worker import WorkerProcess
from tests.integration.control.conftest import NODE, PATIENCE, READY, Post

APP = "tests.integration.control.controlled"
#: Runs turbo as if Celery were not installed.
WITHOUT_CELERY = "import sys; sys.modules['celery'] = None; from turbo.cli.main import main; main()"


class Ended:
    """How a command ended."""

    def __init__(self, run: subprocess.CompletedProcess[str]) -> None:
        self.code = run.returncode
        self.out = run.stdout
        self.err = run.stderr

    def done(self) -> str:
        """Its output, if it succeeded."""
        assert self.code == 0, self.out + self.err
        return self.out


def turbo(post: Post, *arguments: str, app: str | None = APP, typed: str = "") -> Ended:
    """Run turbo; for turbo's own app in a process that cannot import Celery."""
    program = ["-c", WITHOUT_CELERY] if post.kind == "turbo" else ["-m", "turbo"]
    named = ["-A", app] if app else []
    return Ended(
        subprocess.run(
            [sys.executable, *program, *named, *arguments],
            cwd=Path(__file__).parents[3],
            env={**os.environ, **post.environment},
            input=typed,
            capture_output=True,
            text=True,
            timeout=90,
        )
    )


def patient(*nodes: str) -> list[str]:
    return ["-t", str(PATIENCE), "-d", ",".join(nodes or [NODE])]


@pytest.mark.row("CL27", "CL25", "RC2")
def test_status_says_who_is_there(post: Post) -> None:
    assert turbo(post, "status", *patient()).done() == f"->  {NODE}: OK\n\n1 node online.\n"
    assert json.loads(turbo(post, "status", *patient(), "--json").done()) == {NODE: {"ok": "pong"}}
    assert turbo(post, "-q", "status", *patient()).done() == f" {NODE}: OK\n"
    nobody = turbo(post, "status", "-t", "0.2", "-d", "nobody@here")
    said, why = nobody.err.splitlines()
    assert (nobody.code, said) == (69, "Error: No nodes replied within time constraint")
    assert "nobody@here" in why and "--timeout waits longer than 0.2 s" in why


@pytest.mark.row("CL27", "CL25")
def test_a_broker_that_is_away_is_exit_code_69(post: Post) -> None:
    for command in (["status"], ["inspect", "ping"], ["control", "heartbeat"], ["purge", "-f"]):
        ended = turbo(post, "-b", f"amqp://127.0.0.1:{free_port()}//", *command)
        assert ended.code == 69, (command, ended.out, ended.err)
        assert "cannot be used" in ended.err


@pytest.mark.row("CL27", "EC10")
def test_a_probe_needs_no_app(post: Post) -> None:
    ended = turbo(post, "-b", post.vhost, "inspect", "ping", *patient(), "-j", app=None)
    assert json.loads(ended.done()) == {NODE: {"ok": "pong"}}


@pytest.mark.row("CL27", "RC4", "RC12", "RC16")
def test_a_task_from_call_to_result(post: Post) -> None:
    fifo = post.fifo()
    called = turbo(post, "call", "controlled.wait", "-a", json.dumps([str(fifo)])).done().strip()
    post.wait_active(called)
    assert re.search(rf"^ +{called}  controlled\.wait ", turbo(post, "inspect", "active", *patient()).done(), re.M)
    (row,) = json.loads(turbo(post, "inspect", "active", *patient(), "-j").done())[NODE]
    assert (row["id"], row["name"], row["args"]) == (called, "controlled.wait", [str(fifo)])
    asked = json.loads(turbo(post, "inspect", "query_task", called, *patient(), "-j").done())
    assert asked[NODE][called][0] == "active"
    fifo.write_text("done")
    assert turbo(post, "result", called, "--timeout", "30").done() == "done\n"
    ended = turbo(post, "result", called, "--json", "--timeout", "30").done()
    assert json.loads(ended) == {"id": called, "state": "SUCCESS", "result": "done"}
    later = turbo(post, "call", "controlled.wait", "-a", '["/nonexistent"]', "--countdown", "3600").done().strip()
    wait_until("it is scheduled", lambda: later in turbo(post, "inspect", "scheduled", *patient()).done(), 90)
    revoked = turbo(post, "control", "revoke", later, *patient(), "-j").done()
    assert json.loads(revoked) == [{NODE: {"ok": f"tasks {{{later!r}}} flagged as revoked"}}]
    assert later in turbo(post, "inspect", "revoked", *patient()).done()


@pytest.mark.row("CL27")
def test_a_failed_task_is_exit_code_1(post: Post) -> None:
    called = turbo(post, "call", "controlled.wait", "-a", '["/nonexistent"]').done().strip()
    ended = turbo(post, "result", called, "--timeout", "30")
    assert ended.code == 1
    assert "FAILURE" in ended.err and "No such file" in ended.err
    assert "FileNotFoundError" in turbo(post, "result", called, "--traceback").done()
    never = turbo(post, "result", "no-such-id", "--timeout", "0.1")
    assert (never.code, "no result of no-such-id" in never.err) == (1, True)


@pytest.mark.row("CL27", "RC31")
def test_commands_of_the_programs_own(post: Post) -> None:
    assert "greet" in turbo(post, "inspect", "--list").done()
    assert f"nobody greets {NODE} of controlled" in turbo(post, "inspect", "greet", *patient()).done()
    assert NODE in turbo(post, "control", "tell", "something", *patient()).done()
    assert turbo(post, "inspect", "shutdown").code == 2


@pytest.mark.row("CL27")
def test_a_misspelt_task_is_sent_with_a_suggestion(post: Post) -> None:
    ended = turbo(post, "call", "controlled.nop", "--queue", "elsewhere")
    assert ended.done().strip()
    assert "did you mean 'controlled.noop'?" in ended.err


@pytest.mark.row("CL27", "CL16")
def test_purge_asks_and_deletes(post: Post) -> None:
    for _ in range(3):
        turbo(post, "call", "controlled.noop", "--queue", "heap").done()
    refused = turbo(post, "purge", "-Q", "heap", typed="n\n")
    assert (refused.code, "heap" in refused.out) == (1, True)
    assert (
        turbo(post, "purge", "-Q", "heap,missing", typed="y\n")
        .done()
        .endswith("Purged 3 messages from 2 known task queues.\n")
    )
    assert turbo(post, "purge", "-f", "-Q", "heap,elsewhere", "-X", "elsewhere").done() == (
        "No messages purged from 1 queue.\n"
    )
    ended = turbo(post, "purge", "-Q", "heap,missing", "-X", "haep", typed="n\n")
    assert ended.code == 1
    assert "-X haep excludes nothing: there is no such queue; did you mean 'heap'?" in ended.err
    assert "Queue missing does not exist." in turbo(post, "purge", "-f", "-Q", "heap,missing").err


@pytest.mark.row("CL27", "CL25")
def test_exit_codes_are_celerys_also_when_a_worker_answers_with_an_error(post: Post) -> None:
    """An answer is an answer: 0. Nobody: 69. What cannot be asked: 2."""
    commands: dict[tuple[str, ...], int] = {
        ("control", "rate_limit", "nosuch", "1/s", *patient()): 0,
        ("control", "rate_limit", "nosuch", "1/s", *patient(), "-j"): 0,
        ("control", "pool_restart", *patient()): 0,
        ("control", "enable_events", *patient()): 0,
        ("control", "enable_events", "-t", "0.5", "-d", "nobody@here"): 69,
        ("control", "nosuch", *patient()): 2,
    }
    # Celery's command asks the same of either worker.
    celerys = [sys.executable, str(celery_python("5.3"))] if post.kind == "celery" else []
    for arguments, code in commands.items():
        ended = turbo(post, *arguments)
        assert ended.code == code, (arguments, ended.out, ended.err)
        if arguments[1] in ("rate_limit", "pool_restart"):
            assert "error" in ended.out.lower()
        for python in celerys:
            theirs = subprocess.run(
                [python, "-m", "celery", "-b", post.vhost, *arguments],
                env={**own_environment(), "PYTHONWARNINGS": "ignore"}, capture_output=True, text=True, timeout=90,
            )  # fmt: skip
            assert theirs.returncode == code, (python, arguments, theirs.stdout, theirs.stderr)


@pytest.mark.row("CL27")
def test_single_operations_of_amqp(post: Post) -> None:
    assert "queue:tray messages:0 consumers:0" in turbo(post, "amqp", "queue.declare", "tray", "no", "yes").done()
    turbo(post, "amqp", "basic.publish", "hello", "", "tray").done()
    lines = "basic.get tray\nbasic.ack 1\nbasic.get nowhere\nbasic.get tray\nqueue.delete tray\n"
    ended = turbo(post, "amqp", typed=lines)
    assert "'body': 'hello'" in ended.done()
    assert "404 NOT_FOUND" in ended.err
    assert "No messages in queue" in ended.out and "0 messages deleted." in ended.out


@pytest.mark.row("CL27")
def test_the_shell_knows_app_and_tasks(post: Post) -> None:
    ended = turbo(post, "shell", "--python", typed="print(app.main, noop.name, chain.__name__)\n")
    assert "controlled controlled.noop chain" in ended.done().replace("_chain", "chain")


@pytest.mark.row("EV19", "CL27")
def test_events_are_printed_as_they_arrive(post: Post) -> None:
    program = ["-c", WITHOUT_CELERY] if post.kind == "turbo" else ["-m", "turbo"]
    with subprocess.Popen(
        [sys.executable, *program, "-A", APP, "events", "--dump"],
        cwd=Path(__file__).parents[3],
        env={**os.environ, **post.environment},
        stdout=subprocess.PIPE,
        text=True,
    ) as monitor:
        assert monitor.stdout is not None
        try:
            assert monitor.stdout.readline() == "-> evdump: starting capture...\n"
            line = monitor.stdout.readline()
        finally:
            monitor.kill()
    assert line.startswith(f"{NODE} [") and " heartbeat: active=" in line


@pytest.mark.row("EV19", "CL27")
def test_a_camera_takes_pictures(post: Post) -> None:
    """With Celery installed also for an app of turbo's own."""
    camera = "tests.integration.control.camera.Camera"
    command = [sys.executable, "-m", "turbo", "-A", APP, "events", "-c", camera, "-F", "0.2"]
    with WorkerProcess(directory=post.directory, env=post.environment, command=command) as process:
        process.wait_for_line(f"Taking snapshots with {camera}", 60)
        process.wait_for_line(rf"^picture of {NODE}: alive", 60)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


@pytest.mark.row("EV19")
def test_a_camera_that_cannot_be_used(post: Post) -> None:
    ended = turbo(post, "events", "--camera", "no_such_module.Camera")
    assert ended.code == 2
    assert ("needs Celery" if post.kind == "turbo" else "No module named 'no_such_module'") in ended.err


def on_terminal(post: Post, program: list[str], *wanted: str) -> None:
    """Run ``turbo events`` on a terminal until it has shown these texts, and interrupt it."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 140, 0, 0))
    with subprocess.Popen(
        [sys.executable, *program, "-A", APP, "events"],
        cwd=Path(__file__).parents[3],
        env={**os.environ, **post.environment, "TERM": "xterm"},
        stdin=slave, stdout=slave, stderr=slave,
    ) as process:  # fmt: skip
        os.close(slave)
        shown = b""
        try:
            while not all(text.encode() in shown for text in wanted):
                shown += os.read(master, 65536)
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(OSError):  # the terminal is closed
                while os.read(master, 65536):
                    pass
            assert process.wait(60) == 0
        finally:
            process.kill()
            os.close(master)


@pytest.mark.row("EV19", "CL27")
def test_the_screen_on_a_terminal(post: Post) -> None:
    on_terminal(post, ["-m", "turbo"], "Workers online", NODE)


@pytest.mark.row("EV19")
def test_without_celery_a_terminal_gets_the_lines(post: Post) -> None:
    if post.kind == "turbo":
        on_terminal(post, ["-c", WITHOUT_CELERY], "not installed; printing the events", f"{NODE} [")


@pytest.fixture(scope="module")
def native(make_post: Callable[[str], Post]) -> Iterator[Post]:
    """A worker of turbo's own app, whatever the kind of the other tests."""
    found = make_post("turbo")
    with found.worker("-c", "1") as worker:
        worker.wait_for_line(READY, 60)
        yield found


def celery(post: Post, *arguments: str, typed: str = "") -> Ended:
    """Run Celery's own command line with turbo's app."""
    return Ended(
        subprocess.run(
            [sys.executable, "-m", "celery", "-A", APP, *arguments],
            cwd=Path(__file__).parents[3],
            env={**os.environ, **post.environment},
            input=typed,
            capture_output=True,
            text=True,
            timeout=90,
        )
    )


@pytest.mark.row("RC32", "CL27")
def test_celerys_command_line_takes_an_app_of_turbos(native: Post) -> None:
    assert f"->  {NODE}: OK" in celery(native, "status", *patient()).done()
    assert json.loads(celery(native, "inspect", "ping", *patient(), "-j").done()) == {NODE: {"ok": "pong"}}
    changed = celery(native, "control", "revoke", "an-id", *patient(), "-j").done()
    assert json.loads(changed) == [{NODE: {"ok": "tasks {'an-id'} flagged as revoked"}}]
    called = celery(native, "call", "controlled.wait", "-a", '["/nonexistent"]').done().strip()
    assert "FileNotFoundError" in turbo(native, "result", called, "--timeout", "30", "--json").out
    turbo(native, "call", "controlled.noop", "--queue", "heap").done()
    assert celery(native, "purge", "-f", "-Q", "heap").done() == "Purged 1 message from 1 known task queue.\n"
    assert "results:redis" in celery(native, "report").done()


@pytest.mark.row("CL27", "RC30", "RC19", "RC25")
@pytest.mark.parametrize(
    "command",
    [
        ("pool_restart",),
        ("rate_limit", "no.such", "10/s"),
        ("time_limit", "no.such", "1", "2"),
    ],
    ids=" ".join,
)
def test_a_workers_error_reply_is_printed_and_ends_as_by_celery(native: Post, command: tuple[str, ...]) -> None:
    ours, theirs = (run(native, "control", *patient(), *command) for run in (turbo, celery))
    assert f"->  {NODE}: ERROR" in ours.done()
    assert (ours.code, ours.out, ours.err) == (theirs.code, theirs.out, theirs.err)


@pytest.mark.row("RC32", "CL27")
def test_celery_worker_with_an_app_of_turbos_is_turbos_worker(native: Post) -> None:
    command = [sys.executable, "-m", "celery", "-A", APP, "worker", "-c", "1", "-n", "two@here", "-l", "info"]
    with WorkerProcess(directory=native.directory, env=native.environment, command=command) as worker:
        worker.wait_for_line(r"^turbo .* two@here$", 60)
        worker.wait_for_line(READY, 60)
        worker.terminate()
        assert worker.wait() == 0
