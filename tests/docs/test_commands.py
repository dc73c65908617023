"""Every command that a page shows is run by a test, here or where ``RUN_ELSEWHERE`` says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.worker import WorkerProcess

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)

#: Commands that only a whole machine can run, and what runs them.
RUN_ELSEWHERE = {
    "pip install tox && tox": ".ci/run",
    "pip install . && turbo demo": "test_the_demo below; tox -e wheel, in an environment with nothing else",
    "python3 -m venv .venv && . .venv/bin/activate": "tox -e wheel, in an environment of its own",
    "pip install .": "tox -e wheel, with the wheel",
    "pip wheel --no-deps --wheel-dir wheels .": "tox -e wheel, by build",
    "TURBO_COMPILE=1 pip install .": "tox -e compiled",
    "turbo -A proj worker -Q default,emails -c 8 -l info": "test_deployment.py",
    "turbo -A proj worker -Q default,emails -c 8 -l info -n turbo1@%h": "test_deployment.py",
    "turbo -A proj report": "test_deployment.py",
    "turbo -A proj worker -P threads -c 40": "tests/integration/threads",
    "turbo -A proj worker -P threads -c 40 --processes 4": "tests/integration/threads",
}
#: Commands of the quick start, which need its file and a broker.
QUICK_START = {
    "turbo worker -c 2 -l info",
    'python -c "from tasks import add; print(add.delay(2, 3).get(timeout=10))"',
}


def commands() -> list[str]:
    """Every command line in a bash block, one by one."""
    blocks = [block for page in PAGES for block in FENCE.findall(page.read_text())]
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    return sorted({line for line in lines if line and not line.startswith("#")})


def runnable() -> list[str]:
    return [command for command in commands() if command not in RUN_ELSEWHERE and command not in QUICK_START]


def here(command: str) -> list[str]:
    """The command with this interpreter, whether or not ``turbo`` and ``python`` are on the path."""
    words = shlex.split(command)
    programs = {"turbo": [sys.executable, "-m", "turbo"], "python": [sys.executable]}
    return programs[words[0]] + words[1:]


def test_there_are_commands() -> None:
    assert set(commands()) >= RUN_ELSEWHERE.keys() | QUICK_START


@pytest.mark.parametrize("command", runnable())
def test_a_command_runs(command: str, tmp_path: Path) -> None:
    done = subprocess.run(
        here(command),
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()


@pytest.mark.row("RU9")
def test_the_quick_start(tmp_path: Path, vhost: str) -> None:
    (tmp_path / "tasks.py").write_text(quick_start_file())
    run, call = sorted(QUICK_START, key=lambda command: not command.startswith("turbo"))
    environment = {"CELERY_BROKER_URL": vhost}
    with WorkerProcess(*shlex.split(run)[2:], directory=tmp_path, env=environment) as worker:
        worker.wait_for_line(r"tasks:app \(tasks.py in this directory\)")
        worker.wait_for_line(r"ready")
        done = run_here(call, tmp_path, environment)
        assert (done.returncode, done.stdout) == (0, "5\n"), done.stderr + worker.output
        worker.wait_for_line(r"Task tasks\.add\[[0-9a-f-]{36}\] succeeded in")
        worker.terminate()
        assert worker.wait() == 0


def test_the_quick_start_without_rabbitmq(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(quick_start_file())
    run, call = sorted(QUICK_START, key=lambda command: not command.startswith("turbo"))
    with WorkerProcess(*shlex.split(run)[2:], "--embedded-broker", directory=tmp_path) as worker:
        # Something else may have the usual port of this machine: then the worker says what to paste.
        told = worker.wait_for_line(r"as the app's broker URL says|export (CELERY_BROKER_URL)=(amqp://\S+)$")
        worker.wait_for_line(r"ready")
        done = run_here(call, tmp_path, {told[1]: told[2]} if told[1] else {})
        assert (done.returncode, done.stdout) == (0, "5\n"), done.stderr + worker.output
        worker.terminate()
        assert worker.wait() == 0


def quick_start_file() -> str:
    """The README's ``tasks.py``."""
    found = re.search(r"`tasks.py`:\n\n```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def run_here(command: str, directory: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        here(command),
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
        env={**os.environ, **environment, "PYTHONPATH": str(ROOT)},
    )


@pytest.mark.timeout(600)
def test_the_demo(tmp_path: Path) -> None:
    """It takes as long as it needs, which depends on what else runs on the machine."""
    done = turbo_demo(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every task is accounted for" in done.stdout
    for happened in ("attempt 2", "cleaned up", "TimeLimitExceeded", "WorkerLostError", "was replaced"):
        assert happened in done.stdout
    assert re.search(r"20,000 tasks in \d+\.\d s", done.stdout)
    lines = (done.stdout + done.stderr).splitlines()
    assert [line for line in lines if len(line) > 80] == []
    # The broker says at its start what it is, and nobody says anything at the end.
    assert len(done.stderr.splitlines()) <= 1, done.stderr


def test_the_demo_lists_only_options_that_work_and_refuses_others(tmp_path: Path) -> None:
    shown = turbo_demo(tmp_path, "--help").stdout
    assert re.findall(r"^  (-.*?)  ", shown, re.MULTILINE) == ["-h, --help"]
    refused = subprocess.run(
        [sys.executable, "-m", "turbo", "-A", "proj", "demo"],
        cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (refused.returncode, "takes no options" in refused.stderr) == (2, True)


def turbo_demo(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "turbo", "demo", *options],
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
