"""The RabbitMQ and Redis of a bench run: on free ports of 127.0.0.1, with data directories of their own.

RabbitMQ runs with its default settings but for names, ports and places; Redis without persistence. Both are
gone, with their data, when the run ends.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from bench.amqp import Wire, WireError
from bench.processes import BenchError, accepts, end, free_port, launch, wait_until

_PLACES = {
    # RabbitMQ's own script before Debian's wrapper on PATH, which changes the user and the directory
    "rabbitmq-server": ("/usr/lib/rabbitmq/bin", "/usr/local/sbin", "/opt/rabbitmq/sbin", "/usr/sbin"),
    "redis-server": ("/usr/bin", "/usr/local/bin"),
    "epmd": ("/usr/bin", "/usr/local/bin"),
}
_RABBITMQ_CONF = """\
listeners.tcp.1 = 127.0.0.1:{port}
disk_free_limit.absolute = 50MB
log.file.level = warning
"""


def find(program: str) -> Path:
    """Where the server's program is; BenchError with the command that installs it when it is missing."""
    for place in _PLACES[program]:
        candidate = Path(place) / program
        if os.access(candidate, os.X_OK):
            return candidate
    found = shutil.which(program)
    if found is None:
        package = "erlang-base" if program == "epmd" else program
        raise BenchError(
            f"{program} is not installed. On Debian or Ubuntu: sudo apt-get install {package}; "
            "elsewhere your system's package of the same name"
        )
    return Path(found)


class RabbitMQ:
    """A node of its own."""

    def __init__(self, directory: Path) -> None:
        program = find("rabbitmq-server")
        epmd = find("epmd")
        self._home = directory / "home"
        self._home.mkdir(parents=True)
        cookie = self._home / ".erlang.cookie"
        cookie.write_text(secrets.token_hex(16))
        cookie.chmod(0o400)
        self.port = free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}/%2F"
        (directory / "rabbitmq.conf").write_text(_RABBITMQ_CONF.format(port=self.port))
        (directory / "enabled_plugins").write_text("[].\n")
        (directory / "env.conf").write_text("")
        epmd_port = free_port()
        env = {
            "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG": "C.UTF-8",
            "HOME": str(self._home),
            "ERL_EPMD_PORT": str(epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_CRASH_DUMP": os.devnull,
            "RABBITMQ_NODENAME": f"bench-{os.getpid()}-{secrets.token_hex(3)}@localhost",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": f"{directory}/data",
            "RABBITMQ_LOG_BASE": f"{directory}/log",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{directory}/enabled_plugins",
            "RABBITMQ_CONFIG_FILE": f"{directory}/rabbitmq",
            "RABBITMQ_CONF_ENV_FILE": f"{directory}/env.conf",
            "RABBITMQ_PID_FILE": f"{directory}/pid",
            # the start script then becomes the Erlang machine instead of its parent
            "RABBITMQ_ALLOW_INPUT": "1",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-noinput -kernel inet_dist_use_interface {127,0,0,1}",
        }
        self._stack = ExitStack()
        log = directory / "output.log"
        epmd_argv = [str(epmd), "-address", "127.0.0.1", "-port", str(epmd_port)]
        daemon = launch(epmd_argv, env=env, cwd=directory, log=log)
        self._stack.callback(end, daemon, patience=2)
        wait_until("epmd listens", lambda: accepts(epmd_port), 10)
        self._server = launch([program], env=env, cwd=directory, log=log)
        self.pid = self._server.pid
        self._stack.callback(end, self._server, patience=30)
        wait_until("RabbitMQ serves", lambda: self._serves(log), 90, every=0.1)

    def _serves(self, log: Path) -> bool:
        if self._server.poll() is not None:
            raise BenchError(f"RabbitMQ ended while starting:\n{log.read_text(errors='replace')[-3000:]}")
        if not accepts(self.port):
            return False
        try:
            Wire(self.port, timeout=5).close()
        except (OSError, WireError):
            return False
        return True

    def close(self) -> None:
        """End the node."""
        self._stack.close()


class Redis:
    """A Redis of its own, without persistence."""

    def __init__(self, directory: Path) -> None:
        program = find("redis-server")
        directory.mkdir(parents=True)
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        log = directory / "output.log"
        argv = [str(program), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
                "--dir", str(directory)]  # fmt: skip
        self._server = launch(argv, env=dict(os.environ), cwd=directory, log=log)
        self.pid = self._server.pid
        wait_until("Redis answers", lambda: accepts(self.port), 15)
        self._link = socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def size(self) -> int:
        """How many keys it holds."""
        return int(self._ask("DBSIZE")[1:])

    def clear(self) -> None:
        """Forget every key."""
        self._ask("FLUSHALL")

    def close(self) -> None:
        """End it."""
        self._link.close()
        end(self._server, patience=5)

    def _ask(self, command: str) -> bytes:
        self._link.sendall(command.encode() + b"\r\n")
        answer = b""
        while not answer.endswith(b"\r\n"):
            answer += self._link.recv(4096)
        return answer


class Servers:
    """Both servers, each started when first asked for; a context manager. ``directory`` is scratch space."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="turbo-bench-")))
        self._rabbitmq: RabbitMQ | None = None
        self._redis: Redis | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def rabbitmq(self) -> RabbitMQ:
        """The broker."""
        if self._rabbitmq is None:
            self._rabbitmq = RabbitMQ(self.directory / "rabbitmq")
            self._stack.callback(self._rabbitmq.close)
        return self._rabbitmq

    @property
    def redis(self) -> Redis:
        """The result store."""
        if self._redis is None:
            self._redis = Redis(self.directory / "redis")
            self._stack.callback(self._redis.close)
        return self._redis


def versions() -> dict[str, str]:
    """The versions of the servers installed here, as far as they can be told."""
    found: dict[str, str] = {}
    for place in (Path("/usr/lib/rabbitmq/lib"), Path("/opt/rabbitmq")):
        for entry in sorted(place.glob("rabbitmq_server-*")):
            found["rabbitmq"] = entry.name.partition("-")[2]
    try:
        answer = subprocess.run([find("redis-server"), "--version"], capture_output=True, text=True, check=True)
    except (BenchError, subprocess.CalledProcessError):
        return found
    match = re.search(r"v=(\S+)", answer.stdout)
    if match:
        found["redis"] = match[1]
    return found
