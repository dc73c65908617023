"""Workers in the background: ``-D``, ``turbo multi``, and the unit files of Celery's documentation."""

from __future__ import annotations

import configparser
import contextlib
import grp
import os
import pwd
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.harness.processes import free_port, wait_until
from tests.harness.worker import WorkerProcess
from tests.integration.control.conftest import PATIENCE
from turbo.cli.pidfile import Pidfile

APP = """
from turbo import Turbo
app = Turbo("proj", set_as_current=False)

@app.task
def add(x, y):
    return x + y
"""
#: A camera that writes the names of the workers that it sees into a file.
CAMERA = """
from pathlib import Path
from celery.events.snapshot import Polaroid

class Camera(Polaroid):
    def on_shutter(self, state):
        if state.workers:
            Path("run/being-seen").write_text(" ".join(state.workers))
            Path("run/being-seen").rename("run/seen")
"""
#: As Celery's documentation has it, with the places of the files left to the environment.
UNIT = r"""
[Service]
Type=forking
ExecStart=/bin/sh -c '${CELERY_BIN} -A $CELERY_APP multi start $CELERYD_NODES --pidfile=${CELERYD_PID_FILE} --logfile=${CELERYD_LOG_FILE} --loglevel="${CELERYD_LOG_LEVEL}" $CELERYD_OPTS'
ExecStop=/bin/sh -c '${CELERY_BIN} multi stopwait $CELERYD_NODES --pidfile=${CELERYD_PID_FILE} --logfile=${CELERYD_LOG_FILE} --loglevel="${CELERYD_LOG_LEVEL}"'
ExecReload=/bin/sh -c '${CELERY_BIN} -A $CELERY_APP multi restart $CELERYD_NODES --pidfile=${CELERYD_PID_FILE} --logfile=${CELERYD_LOG_FILE} --loglevel="${CELERYD_LOG_LEVEL}" $CELERYD_OPTS'
"""  # noqa: E501 - the lines of the unit file
#: The command of celerybeat.service. With --detach it is that of the init script.
BEAT = (
    "exec ${CELERY_BIN} -A ${CELERY_APP} beat --pidfile=${CELERYBEAT_PID_FILE} "
    "--logfile=${CELERYBEAT_LOG_FILE} --loglevel=${CELERYD_LOG_LEVEL}"
)
#: As in the generic init script, which adds the user and the directory.
INIT = (
    "$CELERY_BIN multi {} $CELERYD_NODES --uid=$CELERYD_USER --workdir=$CELERYD_CHDIR "
    '--pidfile="$CELERYD_PID_FILE" --logfile="$CELERYD_LOG_FILE" --loglevel="$CELERYD_LOG_LEVEL" '
    "--app=$CELERY_APP $CELERYD_OPTS"
)


class Site:
    """A directory with an app, and the environment of its service."""

    def __init__(self, directory: Path, vhost: str) -> None:
        self.directory = directory
        self.holding = contextlib.ExitStack()
        (directory / "proj.py").write_text(APP)
        self.run = directory / "run"
        self.run.mkdir()
        self.environment = {
            **os.environ,
            "CELERY_BROKER_URL": vhost,
            "C_FORCE_ROOT": "1",
            "CELERY_BIN": f"{sys.executable} -m turbo",
            "CELERY_APP": "proj",
            "CELERYD_NODES": "w1 w2",
            "CELERYD_OPTS": "--time-limit=300 --concurrency=1 --concurrency:w2=2",
            "CELERYD_PID_FILE": f"{self.run}/%n.pid",
            "CELERYD_LOG_FILE": f"{self.run}/%n%I.log",
            "CELERYD_LOG_LEVEL": "INFO",
            "CELERYD_USER": pwd.getpwuid(os.getuid()).pw_name,
            "CELERYD_CHDIR": str(directory),
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")]),
        }

    def do(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command as the service's manager would. Its output ends though its workers go on."""
        return subprocess.run(
            command, cwd=self.directory, env=self.environment, capture_output=True, text=True, timeout=120
        )

    def turbo(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.do(sys.executable, "-m", "turbo", *arguments)

    def held_pidfile(self) -> Path:
        """Hold a pidfile, as a running worker does, until the test ends."""
        path = self.run / "held.pid"
        self.holding.enter_context(Pidfile(str(path)))
        return path

    def pid(self, node: str) -> int:
        return int((self.run / f"{node}.pid").read_text())

    def wait_ready(self, node: str, times: int = 1) -> None:
        log = self.run / f"{node}.log"
        wait_until(f"{node} is ready", lambda: log.exists() and log.read_text().count("ready.") >= times, 60)

    def wait_gone(self, *nodes: str) -> None:
        wait_until("they are gone", lambda: not [node for node in nodes if (self.run / f"{node}.pid").exists()], 60)

    def close(self) -> None:
        """Kill what is left."""
        self.holding.close()
        for file in self.run.glob("*.pid"):
            text = file.read_text().strip()
            if text and psutil.pid_exists(int(text)):
                os.kill(int(text), signal.SIGKILL)


@pytest.fixture
def site(tmp_path: Path, vhost: str) -> Iterator[Site]:
    made = Site(tmp_path, vhost)
    yield made
    made.close()


@pytest.fixture
def open_site(vhost: str) -> Iterator[Site]:
    """A site in a directory that every user may enter."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        made = Site(directory, vhost)
        made.run.chmod(0o777)
        yield made
        made.close()


@pytest.mark.row("CL21", "CL7")
def test_a_worker_in_the_background(site: Site) -> None:
    command = ["-A", "proj", "worker", "-D", "-c", "1", "-n", "w1@here", "-l", "INFO", "--umask", "027"]
    files = ["--pidfile", str(site.run / "%n.pid"), "--logfile", str(site.run / "%n.log")]
    started = site.turbo(*command, *files)
    assert (started.returncode, started.stdout, started.stderr) == (0, "", "")
    process = psutil.Process(site.pid("w1"))
    assert os.getsid(process.pid) == process.pid, "it leads a session of its own"
    assert (site.run / "w1.log").stat().st_mode & 0o777 == 0o640
    site.wait_ready("w1")
    assert site.turbo("-A", "proj", "status", "-d", "w1@here", "-t", str(PATIENCE)).returncode == 0
    again = site.turbo(*command, *files)
    assert (again.returncode, f"pid {process.pid}" in again.stderr) == (73, True)
    process.send_signal(signal.SIGHUP)
    site.wait_ready("w1", times=2)
    assert site.pid("w1") == process.pid, "it restarts in the background, in the same process"
    process.terminate()
    site.wait_gone("w1")


@pytest.mark.row("CL21", "CL25")
def test_a_worker_that_cannot_start_says_so_before_it_is_in_the_background(site: Site) -> None:
    ended = site.turbo("-A", "poj", "worker", "--detach", "--logfile", str(site.run / "w.log"))
    assert (ended.returncode, "did you mean 'proj'?" in ended.stderr) == (1, True)
    (site.directory / "celerys.py").write_text("from celery import Celery\napp = Celery('celerys')\n")
    missing = site.run / "missing" / "w.pid"
    for app, pidfile, code, says in (
        ("proj", missing, 1, f"the pidfile {missing} cannot be written: No such file or directory"),
        # Standard error goes to the log file here.
        ("celerys", site.held_pidfile(), 73, "is held by a running worker"),
    ):
        files = ["--pidfile", str(pidfile), "--logfile", str(site.run / "w.log")]
        ended = site.turbo("-A", app, "worker", "-D", *files)
        assert (ended.returncode, says in ended.stderr) == (code, True), ended.stderr
    site.environment["C_FAKEFORK"] = "1"
    ended = site.turbo("-A", "proj", "worker", "-D", "-X", "celery")
    assert (ended.returncode, "no queue" in ended.stderr) == (1, True)


@pytest.mark.row("CL21")
@pytest.mark.skipif(os.getuid() != 0, reason="only root becomes another user; see CONTRIBUTING.md")
def test_a_worker_as_another_user(open_site: Site) -> None:
    nobody, site = pwd.getpwnam("nobody"), open_site
    log, pidfile = site.run / "w1.log", site.run / "w1.pid"
    command = ["-A", "proj", "worker", "-D", "-c", "1", "-n", "w1@here", "-l", "INFO", "--uid", "nobody"]
    started = site.turbo(*command, "--pidfile", str(pidfile), "--logfile", str(log))
    assert started.returncode == 0, started.stderr
    site.wait_ready("w1")
    family = [psutil.Process(site.pid("w1")), *psutil.Process(site.pid("w1")).children(recursive=True)]
    assert {(each.uids().effective, each.gids().effective) for each in family} == {(nobody.pw_uid, nobody.pw_gid)}
    assert log.stat().st_uid == nobody.pw_uid
    assert "running as root" not in log.read_text()
    os.kill(site.pid("w1"), signal.SIGTERM)
    site.wait_gone("w1")


@pytest.mark.row("EV19", "CL21")
def test_a_camera_in_the_background(site: Site) -> None:
    # Another user may be unable to read root's Python, of which a camera imports more later.
    group = grp.getgrnam("nogroup").gr_gid if os.getuid() == 0 else os.getgid()
    (site.directory / "seen.py").write_text(CAMERA)
    log, pidfile = site.run / "cam.log", site.run / "cam.pid"
    command = ["-A", "proj", "events", "--camera", "seen.Camera", "-F", "0.1", "--detach", "-l", "INFO"]
    command += ["--workdir", str(site.directory), "--umask", "027", "--pidfile", str(pidfile), "--logfile", str(log)]
    command += ["--uid", str(os.getuid()), "--gid", str(group)]
    started = site.turbo(*command)
    assert (started.returncode, started.stdout, started.stderr) == (0, "", "")
    with WorkerProcess(
        "-A", "proj", "-c", "1", "-n", "w1@here", "-l", "INFO", directory=site.directory, env=site.environment
    ) as worker:
        worker.wait_for_line("ready", 60)
        wait_until("it sees the worker", lambda: (site.run / "seen").exists(), 60)
    assert (site.run / "seen").read_text() == "w1@here"
    process = psutil.Process(site.pid("cam"))
    assert os.getsid(process.pid) == process.pid, "it leads a session of its own"
    assert (log.stat().st_mode & 0o777, process.gids().effective, log.stat().st_gid) == (0o640, group, group)
    again = site.turbo(*command)
    assert (again.returncode, f"pid {process.pid}" in again.stderr) == (73, True)
    process.terminate()
    site.wait_gone("cam")


@pytest.mark.row("EV19", "CL21")
def test_a_camera_that_cannot_start_says_so(site: Site) -> None:
    ended = site.turbo("-A", "proj", "events", "--camera", "missing.Camera", "--detach", "-f", str(site.run / "log"))
    assert (ended.returncode, "No module named 'missing'" in ended.stderr) == (2, True)
    ended = site.turbo("-A", "proj", "events", "--dump", "--detach")
    assert (ended.returncode, "give -c/--camera" in ended.stderr) == (2, True)
    ended = site.turbo("-A", "proj", "events", "--dump", "--uid", "no-such-user")
    assert (ended.returncode, "there is no such user" in ended.stderr) == (1, True)


@pytest.mark.row("EV19", "CL21")
def test_a_camera_in_the_background_logs_why_it_ends(site: Site) -> None:
    (site.directory / "seen.py").write_text(CAMERA)
    site.environment["CELERY_BROKER_URL"] = f"amqp://127.0.0.1:{free_port()}"
    log = site.run / "cam.log"
    command = ["-A", "proj", "events", "--camera", "seen.Camera", "--detach", "--pidfile", str(site.run / "cam.pid")]
    assert site.turbo(*command, "--logfile", str(log)).returncode == 0
    wait_until("it has ended", lambda: log.exists() and "ends by an error" in log.read_text(), 60)
    site.wait_gone("cam")


@pytest.mark.row("EC12", "EC11", "CL27")
def test_the_unit_file_of_celerys_documentation(site: Site) -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(UNIT)
    lines = {name: line.split("-c ", 1)[1][1:-1] for name, line in unit["Service"].items() if name.startswith("Exec")}
    started = site.do("/bin/sh", "-c", lines["ExecStart"])
    assert started.returncode == 0, started.stdout + started.stderr
    assert started.stdout.count(": OK") == 2
    first = [site.pid("w1"), site.pid("w2")]
    for node, children in (("w1", 1), ("w2", 2)):
        site.wait_ready(node)
        # Ready is a worker with its first child.
        logs = f"{node}-*.log"
        wait_until("options of one node", lambda: len(list(site.run.glob(logs))) == children, 60)  # noqa: B023
    reloaded = site.do("/bin/sh", "-c", lines["ExecReload"])
    assert reloaded.returncode == 0, reloaded.stdout + reloaded.stderr
    second = [site.pid("w1"), site.pid("w2")]
    assert not set(first) & set(second)
    for node in ("w1", "w2"):
        site.wait_ready(node, times=2)
    stopped = site.do("/bin/sh", "-c", lines["ExecStop"])
    assert (stopped.returncode, stopped.stdout.count(": OK")) == (0, 2)
    assert not [pid for pid in second if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]
    assert not list(site.run.glob("*.pid"))
    down = site.do("/bin/sh", "-c", lines["ExecStop"])
    assert (down.returncode, down.stdout.count("DOWN")) == (0, 2)


@pytest.mark.row("EC11", "CL19")
def test_beat_of_celerys_documentation(site: Site) -> None:
    site.environment.update(
        CELERYBEAT_PID_FILE=str(site.run / "beat.pid"), CELERYBEAT_LOG_FILE=str(site.run / "beat.log")
    )
    with WorkerProcess(directory=site.directory, env=site.environment, command=["/bin/sh", "-c", BEAT]) as service:
        wait_until("beat runs", lambda: (site.run / "beat.pid").exists(), 60)
        again = site.do("/bin/sh", "-c", BEAT)
        assert again.returncode == 73, "one beat for a pidfile"
        os.kill(site.pid("beat"), signal.SIGTERM)
        assert service.wait() == 0
    in_background = site.do("/bin/sh", "-c", f"{BEAT} --detach --schedule={site.run}/schedule")
    assert (in_background.returncode, in_background.stderr) == (0, "")
    os.kill(site.pid("beat"), signal.SIGTERM)
    site.wait_gone("beat")


@pytest.mark.row("EC12", "CL21")
def test_the_way_of_the_generic_init_script(site: Site) -> None:
    started = site.do("/bin/sh", "-c", INIT.format("start"))
    assert started.returncode == 0, started.stdout + started.stderr
    pids = [site.pid("w1"), site.pid("w2")]
    site.wait_ready("w1")
    site.wait_ready("w2")
    signalled = site.do("/bin/sh", "-c", INIT.format("stop"))
    assert [
        f"w{number + 1}" in signalled.stdout and f"TERM -> {pid}" in signalled.stdout for number, pid in enumerate(pids)
    ]
    site.wait_gone("w1", "w2")
    site.do("/bin/sh", "-c", INIT.format("start"))
    killed = site.do("/bin/sh", "-c", INIT.format("kill"))
    assert killed.stdout.count("Sending SIGKILL") == 2
    assert "Could not signal" not in killed.stdout
    failed = site.do("/bin/sh", "-c", INIT.format("start") + " --no-such-option=1")
    assert (failed.returncode, failed.stdout.count("FAILED")) == (1, 2)
