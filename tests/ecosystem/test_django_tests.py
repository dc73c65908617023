"""``start_worker`` in the tests of a Django project: the connections of the tests' process stay open."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.postgres import Postgres

ROOT = Path(__file__).resolve().parents[2]
_SETTINGS = """
import os
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "HOST": os.environ["PGHOST"],
    "PORT": os.environ["PGPORT"], "USER": os.environ["PGUSER"], "NAME": os.environ["PGDATABASE"],
    "CONN_MAX_AGE": None}}
INSTALLED_APPS = []
"""
_PROGRAM = """
import django, sys
django.setup()
from django.db import connection, transaction
from KIND import KIND as Library
from turbo.contrib.testing.worker import start_worker
from turbo.embedded_broker.launch import run_in_subprocess


def query(text="SELECT pg_backend_pid()"):
    with connection.cursor() as cursor:
        cursor.execute(text)
        return cursor.fetchone()[0]


with run_in_subprocess() as broker:
    app = Library("tests", broker=broker.url, backend="rpc://")
    app.task(name="query")(query)
    connection.creation.create_test_db(verbosity=0, serialize=False)
    mine = query()
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE kept AS SELECT 7 AS n")
        with start_worker(app) as worker:
            theirs = [app.send_task("query").get(timeout=30) for _ in range(2)]
            database = app.send_task("query", ["SELECT current_database()"]).get(timeout=30)
            worker.reload()
            theirs.append(app.send_task("query").get(timeout=30))
        assert query() == mine, "the connection was lost"
    assert query("SELECT n FROM kept") == 7
    assert mine not in theirs
    assert database == query("SELECT current_database()") and database.startswith("test_")
    app.close()
"""


@pytest.mark.parametrize("kind", ["turbo:Turbo", "celery:Celery"])
def test_the_transaction_of_a_test_goes_on(postgres: Postgres, tmp_path: Path, kind: str) -> None:
    module, _, name = kind.partition(":")
    program = _PROGRAM.replace("from KIND import KIND", f"from {module} import {name}")
    (tmp_path / "program.py").write_text(program)
    (tmp_path / "settings.py").write_text(_SETTINGS)
    database = postgres.environment(postgres.new_database())
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=110, check=False,
        env={**os.environ, **database, "PYTHONPATH": str(ROOT), "DJANGO_SETTINGS_MODULE": "settings"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
