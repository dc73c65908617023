"""A private Redis server for the test run, with a URL per test (its databases are handed out in turn)."""

from __future__ import annotations

import signal
import socket
import subprocess
from pathlib import Path

from tests.harness.packages import require
from tests.harness.processes import HarnessError, end, free_port, spawn, wait_until

_DATABASES = 512


class RedisServer:
    """`url` is database 0; `new_database()` gives the URL of an empty one."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._program = require("redis-server")
        self._server: subprocess.Popen[bytes] | None = None
        self._next = 0

    def start(self) -> None:
        """Start, or start again with the data that was appended to its log."""
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

        wait_until("Redis answers", answers, 15)

    def command(self, *words: str) -> bytes:
        """Send one command; the first chunk of the raw answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as link:
            link.sendall((" ".join(words) + "\r\n").encode())
            return link.recv(65536)

    def new_database(self) -> str:
        """The URL of an emptied database."""
        self._next = self._next % (_DATABASES - 1) + 1
        self.command_on(self._next, "FLUSHDB")
        return f"redis://127.0.0.1:{self.port}/{self._next}"

    def command_on(self, database: int, *words: str) -> bytes:
        """Send one command to a database."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as link:
            link.sendall(f"SELECT {database}\r\n".encode())
            link.recv(64)
            link.sendall((" ".join(words) + "\r\n").encode())
            return link.recv(65536)

    def pause(self) -> None:
        """SIGSTOP: the server keeps its sockets and answers nobody."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT after `pause`."""
        self._running().send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL."""
        if self._server is not None:
            end(self._server, gently=None)
            self._server = None

    def restart(self) -> None:
        """SIGKILL and start again; every acknowledged write is still there."""
        self.kill()
        self.start()

    def ensure_running(self) -> None:
        """Bring it back when a test that failed left it dead or paused."""
        if self._server is None or self._server.poll() is not None:
            self.start()
        else:
            self.resume()

    def close(self) -> None:
        """End it."""
        self.kill()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._server is None:
            raise HarnessError("Redis is not running")
        return self._server
