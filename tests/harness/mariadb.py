"""A private MariaDB server for the test run, with its own port and data directory, on 127.0.0.1.

Root runs it as the user of its package, which cannot enter pytest's temporary directories, so the data is in another
temporary directory, which is deleted at the end.
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pymysql

from tests.harness.packages import require
from tests.harness.processes import PATIENCE, HarnessError, end, free_port, spawn, wait_until

_OWNER = "mysql"
_USER = "tests"
_SETTINGS = {
    "bind-address": "127.0.0.1",
    "innodb-flush-log-at-trx-commit": "0",
    "innodb-buffer-pool-size": "32M",
    "innodb-log-file-size": "16M",
    "innodb-doublewrite": "0",
    "innodb-use-native-aio": "0",
    "performance-schema": "0",
    "max-connections": "60",
    "max-allowed-packet": "64M",
    "skip-log-bin": "1",
}
#: Run at the first start, before the server accepts connections.
_FIRST = f"CREATE USER '{_USER}'@'127.0.0.1';\nGRANT ALL ON *.* TO '{_USER}'@'127.0.0.1' WITH GRANT OPTION;\n"


class MariaDB:
    """The server. `new_database()` makes an empty database; its user needs no password."""

    def __init__(self) -> None:
        self.port = free_port()
        self._program = require("mariadb-server")
        self._directory = Path(tempfile.mkdtemp(prefix="turbo-mariadb-"))
        self._server: subprocess.Popen[bytes] | None = None
        self._names = itertools.count(1)

    def start(self) -> None:
        """Create the data directory and start the server; return when it accepts connections."""
        data, log, first = self._directory / "data", self._directory / "log", self._directory / "first.sql"
        user = []
        if os.geteuid() == 0:
            owner = pwd.getpwnam(_OWNER)
            os.chown(self._directory, owner.pw_uid, owner.pw_gid)
            user = [f"--user={_OWNER}"]
        install = shutil.which("mariadb-install-db") or "/usr/bin/mariadb-install-db"
        made = subprocess.run(
            [install, "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal",
             "--skip-test-db", "--innodb-log-file-size=16M", *user],
            cwd=self._directory, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if made.returncode != 0:
            raise HarnessError(f"mariadb-install-db failed ({made.returncode}): {made.stdout}{made.stderr}")
        first.write_text(_FIRST)
        first.chmod(0o644)
        options = [f"--{name}={value}" for name, value in _SETTINGS.items()]
        with log.open("wb") as output:
            server = self._server = spawn(
                [*_dropped(), self._program,
                 "--no-defaults", f"--datadir={data}", f"--port={self.port}", f"--init-file={first}",
                 f"--socket={self._directory / 'socket'}", f"--pid-file={self._directory / 'pid'}", *options],
                cwd=self._directory, stdout=output, stderr=output,
            )  # fmt: skip

        def answers() -> bool:
            if server.poll() is not None:
                raise HarnessError(f"mariadbd ended ({server.returncode}): {log.read_text()[-2000:]}")
            try:
                self.query("SELECT 1")
            except pymysql.err.OperationalError:
                return False
            return True

        wait_until("MariaDB answers", answers, PATIENCE)

    def query(self, statement: str, database: str | None = None) -> list[tuple[Any, ...]]:
        """Execute one statement in a new connection; return its rows."""
        connection = pymysql.connect(
            host="127.0.0.1", port=self.port, user=_USER, database=database, autocommit=True, connect_timeout=10
        )
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return list(cursor.fetchall())
        finally:
            connection.close()

    def new_database(self) -> str:
        """Create an empty database; return its name."""
        name = f"t{next(self._names)}"
        self.query(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        return name

    def url(self, database: str) -> str:
        """Return the URL of a database for SQLAlchemy."""
        return f"mysql+pymysql://{_USER}@127.0.0.1:{self.port}/{database}"

    def close(self) -> None:
        """Stop the server and delete its files."""
        if self._server is not None:
            end(self._server)
            self._server = None
        shutil.rmtree(self._directory, ignore_errors=True)


def _dropped() -> list[str]:
    """Return the command prefix that runs a program as an ordinary user.

    Changing the user clears the parent-death signal, so setpriv sets it again.
    """
    if os.geteuid() != 0:
        return []
    return ["setpriv", f"--reuid={_OWNER}", f"--regid={_OWNER}", "--init-groups", "--pdeathsig=KILL", "--"]
