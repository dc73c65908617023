"""What docs/migrating.md says about deploying: each example is sound, and what it runs is run, asked and stopped."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import kubernetes_validate
import psutil
import pytest
from click.testing import CliRunner

from tests.docs import deployment
from tests.docs.deployment import DEPLOY, Deployment
from tests.harness.processes import wait_until
from tests.harness.worker import WorkerProcess
from turbo.cli import main

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "migrating.md"
SITE = Path(__file__).parent / "deployed"
#: Seconds that a worker may need, after the last task, to hand back, settle and close.
CLOSING = 10
#: Where the unit has the project.
HOME = "/srv/proj"


def page_commands(subcommand: str) -> list[str]:
    """What the page has its reader type in passing, of one of turbo's commands."""
    blocks = re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if f"turbo -A proj {subcommand}" in line]


@dataclass(frozen=True, slots=True)
class Site:
    """A machine as the examples expect it: the project in its place, `turbo` and `celery` on the path."""

    home: Path
    env: dict[str, str]

    def run(self, *command: str, timeout: float = 150) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.home,
            env={**os.environ, **self.env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def producer(self, *what: object) -> str:
        done = self.run(sys.executable, "-W", "ignore", "send.py", json.dumps(what))
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def worker(self, command: list[str], *, first_process: bool) -> WorkerProcess:
        """A process that becomes the command; its path is this site's."""
        wrapped = [*(first_in_its_container() if first_process else ()), *command]
        found = shutil.which(wrapped[0], path=self.env["PATH"])
        assert found, wrapped
        return WorkerProcess(*wrapped[1:], directory=self.home, env=self.env, command=(found,))


def first_in_its_container() -> tuple[str, ...]:
    """What makes the rest of a command process 1 of its own process namespace, as a container's is."""
    unshare = shutil.which("unshare")
    assert unshare, "util-linux has no unshare on this machine: apt-get install util-linux"
    user = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    return (unshare, *user, "--pid", "--fork", "--mount-proc", "--kill-child=KILL")


@pytest.fixture
def site(tmp_path: Path, vhost: str, redis_db: str) -> Iterator[Site]:
    home = tmp_path / "srv" / "proj"
    shutil.copytree(SITE, home, ignore=shutil.ignore_patterns("__pycache__"))
    programs = home / "venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("turbo", "celery"):
        script = programs / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -W ignore -m {name} "$@"\n')
        script.chmod(0o755)
    env = {
        "PATH": f"{programs}:{os.environ.get('PATH', '')}:/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOSTNAME": socket.gethostname(),
        "CELERY_BROKER_URL": vhost,
        "CELERY_RESULT_BACKEND": redis_db,
    }
    yield Site(home, env)


def main_process(worker: WorkerProcess, *, first_process: bool) -> psutil.Process:
    """What a supervisor signals: the command itself, or the first process of the container."""
    started = psutil.Process(worker.pid)
    return started.children()[0] if first_process else started


@pytest.mark.row("P18")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["systemd", "docker", "kubernetes"])
def test_it_starts_answers_and_stops_as_deployed(kind: str, site: Site) -> None:
    """With a task that runs when the supervisor asks it to end: that one ends well, and so does the worker."""
    deployed: Deployment = deployment.ALL[kind]()
    command = [word.replace(HOME, str(site.home)) for word in deployed.command]
    started, released = site.home / "started", site.home / "released"
    with site.worker(command, first_process=deployed.first_process) as worker:
        worker.wait_for_line(r"ready\.$")
        for probe in deployed.probes:
            asked = site.run(*probe)
            assert asked.returncode == 0, asked.stdout + asked.stderr + worker.output
            assert "pong" in asked.stdout
        queue = deployed.queues[-1]
        task = site.producer("send", queue, str(started), str(released), deployed.shutdown_timeout)
        wait_until("the task runs", started.exists, 60)
        main_process(worker, first_process=deployed.first_process).send_signal(signal.Signals[deployed.signal])
        worker.wait_for_line("warm shutdown")
        released.touch()
        assert worker.wait(deployed.patience) == 0
        assert site.producer("wait", task) == "finished"


@pytest.mark.parametrize("kind", deployment.ALL)
def test_nobody_kills_a_worker_before_its_own_deadline(kind: str) -> None:
    deployed: Deployment = deployment.ALL[kind]()
    assert deployed.shutdown_timeout + CLOSING <= deployed.patience


def test_a_worker_that_is_not_there_is_not_well(site: Site) -> None:
    """The probes can fail."""
    for probe in deployment.docker().probes:
        command = [word.replace("--timeout 10", "--timeout 1") for word in probe]
        assert site.run(*command).returncode != 0


def test_the_unit_is_sound(site: Site, tmp_path: Path, systemd_analyze: Path) -> None:
    unit = tmp_path / "turbo-worker.service"
    unit.write_text(deployment.UNIT.read_text().replace(HOME, str(site.home)))
    done = subprocess.run([systemd_analyze, "verify", "--man=no", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    settings = deployment.unit()
    # TERM to the children as well would do no harm, but would tell nothing; what is left in the end is all killed.
    assert settings["KillMode"] == ["mixed"]


def test_the_dockerfile_starts_no_shell_around_the_worker() -> None:
    found = deployment.instructions()
    assert [name for name, _ in found if name not in _INSTRUCTIONS] == []
    for name, value in found:
        if name in ("ENTRYPOINT", "CMD"):
            assert all(isinstance(word, str) for word in json.loads(value))
    assert dict(found)["USER"] != "root"


_INSTRUCTIONS = frozenset("FROM WORKDIR COPY RUN USER ENTRYPOINT CMD STOPSIGNAL HEALTHCHECK ENV".split())


def test_the_manifest_is_what_kubernetes_takes() -> None:
    kubernetes_validate.validate(deployment.manifest(), "1.31", strict=True)
    pod = deployment.manifest()["spec"]["template"]["spec"]
    for probe in ("readinessProbe", "livenessProbe"):
        settings = pod["containers"][0][probe]
        inner = re.search(r"--timeout (\d+)", settings["exec"]["command"][-1])
        assert inner and float(inner[1]) < settings["timeoutSeconds"]


def test_the_services_are_whole(site: Site) -> None:
    services = deployment.services()
    # The worker is run, as the image's, by the test above.
    assert deployment.compose().command == deployment.docker().command
    assert deployment.compose().signal == deployment.docker().signal
    for service in services.values():
        assert service.keys() & {"image", "build"}
        assert set(service.get("depends_on", ())) <= services.keys()
    beat = services["beat"]
    command = [word.replace("/tmp/", f"{site.home}/") for word in beat["entrypoint"] + beat["command"]]
    with site.worker(command, first_process=False) as scheduler:
        scheduler.wait_for_line("beat: Starting")


@pytest.mark.parametrize("name", sorted(path.name for path in DEPLOY.iterdir()))
def test_the_page_shows_the_file_as_it_is(name: str) -> None:
    shown = re.search(rf"\[deploy/{re.escape(name)}\].*?:\n\n```\w+\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert shown is not None
    assert shown[1] == (DEPLOY / name).read_text()


@pytest.mark.timeout(600)
def test_the_switch(site: Site) -> None:
    """The workers that the page starts in passing, beside one another: they consume what the app's producers send."""
    lines = page_commands("worker")
    assert len(lines) > 1
    with contextlib.ExitStack() as running:
        workers = [running.enter_context(site.worker(shlex.split(line), first_process=False)) for line in lines]
        for worker in workers:
            worker.wait_for_line(r"ready\.$")
        for worker in reversed(workers):
            started, released = site.home / "started", site.home / "released"
            released.touch()
            assert site.producer("wait", site.producer("send", "emails", str(started), str(released), 30)) == "finished"
            worker.terminate()
            assert worker.wait() == 0


def test_the_look_before_it(site: Site) -> None:
    (line,) = page_commands("report")
    done = site.run(*shlex.split(line))
    assert done.returncode == 0, done.stderr
    assert "proj.hold" in done.stdout or "proj.celery:app" in done.stdout


def test_pools_that_are_said_to_be_refused_are() -> None:
    (row,) = [line for line in PAGE.read_text().splitlines() if line.startswith("| pools")]
    found = re.search(r"(\w+) and (\w+) are refused", row)
    assert found is not None
    for pool in found.groups():
        answer = CliRunner().invoke(main.turbo, ["worker", "-P", pool])
        assert answer.exit_code == 2
        assert pool in answer.output
