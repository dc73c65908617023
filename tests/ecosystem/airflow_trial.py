"""``turbo exec airflow celery worker`` runs a task of a real Airflow.

Not part of the suite, since Airflow is large: ``tox -e airflow`` installs it and names this file.
``TURBO_TEST_AIRFLOW`` is the directory of Airflow's programs.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.harness.postgres import Postgres
from tests.harness.worker import WorkerProcess

pytestmark = pytest.mark.timeout(600)

PROGRAMS = Path(os.environ["TURBO_TEST_AIRFLOW"])
DAG = """
import datetime
from airflow.decorators import dag, task

@dag(schedule=None, start_date=datetime.datetime(2024, 1, 1), is_paused_upon_creation=False)
def hello():
    @task
    def one():
        return "made by turbo"
    one()

hello()
"""
#: What Airflow's executor sends for a task.
SEND = """
from airflow.providers.celery.executors.celery_executor_utils import execute_command
command = ["airflow", "tasks", "run", "hello", "one", "trial", "--local", "--ignore-all-dependencies"]
print(execute_command.apply_async(args=[command], queue="default").get(timeout=120))
"""


def test_a_task_of_a_dag(tmp_path: Path, vhost: str, postgres: Postgres) -> None:
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "hello.py").write_text(DAG)
    env = {
        "PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}",
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": (
            f"postgresql+psycopg2://tests@127.0.0.1:{postgres.port}/{postgres.new_database()}"
        ),
        "AIRFLOW__CELERY__BROKER_URL": vhost,
        "PYTHONPATH": "",
    }

    def run(*command: str) -> str:
        done = subprocess.run(
            [str(PROGRAMS / command[0]), *command[1:]], env={**os.environ, **env}, cwd=tmp_path,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        return done.stdout

    run("airflow", "db", "migrate")
    run("airflow", "dags", "reserialize")
    run("airflow", "dags", "trigger", "hello", "--run-id", "trial")
    line = [str(PROGRAMS / "turbo"), "exec", "--", "airflow", "celery", "worker", "-q", "default", "-c", "1"]
    with WorkerProcess(directory=tmp_path, env=env, command=[*line, "--skip-serve-logs"]) as worker:
        worker.wait_for_line(r"ready\.$", 120)
        assert "None" in run("python", "-c", SEND)
        assert run("airflow", "tasks", "state", "hello", "one", "trial").splitlines()[-1] == "success"
        worker.terminate()
        assert worker.wait(60) == 0
