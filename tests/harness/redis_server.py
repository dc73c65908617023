"""A private Redis server for the test run; each test gets its own database."""

from __future__ import annotations

import signal
import socket
import subprocess
from pathlib import Path

from tests.harness.packages import require
from tests.harness.processes import PATIENCE, HarnessError, end, free_port, spawn, wait_until

_DATABASES = 512


class RedisServer:
    """The server. `url` is database 0; `new_database()` returns the URL of an empty one."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._program = require("redis-server")
        self._server: subprocess.Popen[bytes] | None = None
        self._next = 0

    def start(self) -> None:
        """Start, or restart with the data of its append-only file; return when it answers."""
        settings = {
            "port": self.port,
            "bind": "127.0.0.1",
            "dir": self.directory,
            "databases": _DATABASES,
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
            "logfile": self.directory / "log",
            "daemonize": "no",
        }
        argv = [str(part) for name, value in settings.items() for part in (f"--{name}", value)]
        self._server = spawn([self._program, *argv], cwd=self.directory)
        server = self._server

        def answers() -> bool:
            if server.poll() is not None:
                log = (self.directory / "log").read_text()[-2000:]
                raise HarnessError(f"redis-server ended ({server.returncode}): {log}")
            try:
                return self.command("PING").startswith(b"+PONG")
            except OSError:
                return False

        wait_until("Redis answers", answers, PATIENCE)

    def command(self, *words: str) -> bytes:
        """Send one command; return the first chunk of the raw reply."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as link:
            link.sendall((" ".join(words) + "\r\n").encode())
            return link.recv(65536)

    def new_database(self) -> str:
        """Return the URL of an empty database; the databases are used in turn."""
        self._next = self._next % (_DATABASES - 1) + 1
        self.command_on(self._next, "FLUSHDB")
        return f"redis://127.0.0.1:{self.port}/{self._next}"

    def command_on(self, database: int, *words: str) -> bytes:
        """Send one command to a database; return the first chunk of the raw reply."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as link:
            link.sendall(f"SELECT {database}\r\n".encode())
            link.recv(64)
            link.sendall((" ".join(words) + "\r\n").encode())
            return link.recv(65536)

    def pause(self) -> None:
        """Stop the process (SIGSTOP): sockets stay open, and nothing is answered."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Continue the process (SIGCONT) after `pause`."""
        self._running().send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill the server (SIGKILL)."""
        if self._server is not None:
            end(self._server, gently=None)
            self._server = None

    def restart(self) -> None:
        """Kill the server and start it again; no acknowledged write is lost."""
        self.kill()
        self.start()

    def ensure_running(self) -> None:
        """Start or continue the server if a failed test left it dead or paused."""
        if self._server is None or self._server.poll() is not None:
            self.start()
        else:
            self.resume()

    def close(self) -> None:
        """End the server."""
        self.kill()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._server is None:
            raise HarnessError("Redis is not running")
        return self._server
