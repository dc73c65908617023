"""A private PostgreSQL server for the test run, with its own port and data directory, on 127.0.0.1.

PostgreSQL refuses to run as root, so root runs it as the user of its package. That user cannot enter pytest's temporary
directories, so the data is in another temporary directory, which is deleted at the end.
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import psycopg

from tests.harness.packages import require
from tests.harness.processes import PATIENCE, HarnessError, end, free_port, spawn, wait_until

_OWNER = "postgres"
_SUPERUSER = "tests"
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    # Nothing in /dev/shm, where other tests look for what workers leave.
    "dynamic_shared_memory_type": "mmap",
    "shared_buffers": "16MB",
    "max_connections": "60",
}


class Postgres:
    """The server. `new_database()` makes an empty database; it accepts its superuser without a password."""

    def __init__(self) -> None:
        self.port = free_port()
        self._programs = require("postgresql").resolve().parent
        self._directory = Path(tempfile.mkdtemp(prefix="turbo-postgres-"))
        self._server: subprocess.Popen[bytes] | None = None
        self._names = itertools.count(1)

    def start(self) -> None:
        """Create the data directory and start the server; return when it accepts connections."""
        data = self._directory / "data"
        if os.geteuid() == 0:
            owner = pwd.getpwnam(_OWNER)
            os.chown(self._directory, owner.pw_uid, owner.pw_gid)
        made = subprocess.run(
            [*self._dropped(), str(self._programs / "initdb"), "--no-sync", "--auth=trust", "--encoding=UTF8",
             "--locale=C.UTF-8", f"--username={_SUPERUSER}", f"--pgdata={data}"],
            cwd=self._directory, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if made.returncode != 0:
            raise HarnessError(f"initdb failed ({made.returncode}): {made.stdout}{made.stderr}")
        settings = {"port": str(self.port), **_SETTINGS}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        log = self._directory / "log"
        with log.open("wb") as output:
            server = self._server = spawn(
                [*self._dropped(), self._programs / "postgres", "-D", data, *options],
                cwd=self._directory, stdout=output, stderr=output,
            )  # fmt: skip

        def answers() -> bool:
            if server.poll() is not None:
                raise HarnessError(f"postgres ended ({server.returncode}): {log.read_text()[-2000:]}")
            try:
                self.query("postgres", "SELECT 1")
            except psycopg.OperationalError:
                return False
            return True

        wait_until("PostgreSQL answers", answers, PATIENCE)

    def query(self, database: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Execute one statement in a new connection; return its rows."""
        with psycopg.connect(
            host="127.0.0.1", port=self.port, user=_SUPERUSER, dbname=database, autocommit=True, connect_timeout=10
        ) as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description is not None else []

    def new_database(self) -> str:
        """Create an empty database; return its name."""
        name = f"t{next(self._names)}"
        self.query("postgres", f"CREATE DATABASE {name}")
        return name

    def url(self, database: str, port: int | None = None) -> str:
        """Return the URL of a database for SQLAlchemy; ``port``: of a proxy."""
        return f"postgresql+psycopg://{_SUPERUSER}@127.0.0.1:{port or self.port}/{database}"

    def environment(self, database: str) -> dict[str, str]:
        """Return the environment variables that select this database for libpq (psycopg, psql)."""
        return {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.port),
            "PGUSER": _SUPERUSER,
            "PGPASSWORD": "not asked for",
            "PGDATABASE": database,
        }

    def close(self) -> None:
        """Stop the server and delete its files."""
        if self._server is not None:
            end(self._server, gently=signal.SIGQUIT)
            self._server = None
        shutil.rmtree(self._directory, ignore_errors=True)

    @staticmethod
    def _dropped() -> list[str]:
        """Return the command prefix that runs a program as an ordinary user.

        Changing the user clears the parent-death signal, so setpriv sets it again.
        """
        if os.geteuid() != 0:
            return []
        return ["setpriv", f"--reuid={_OWNER}", f"--regid={_OWNER}", "--init-groups", "--pdeathsig=KILL", "--"]
