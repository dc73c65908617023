"""``examples/django_blog`` as its README says: turbo's own API in a Django project, every command on real servers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.ecosystem.akismet_server import KEY, SPAMMER, Akismet, akismet
from tests.ecosystem.test_django_example import process, programs
from tests.harness.packages import require
from tests.harness.postgres import Postgres
from tests.harness.processes import free_port, wait_until
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.worker import WorkerProcess

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "django_blog"
README = (EXAMPLE / "README.md").read_text()
BLOCKS = [block.strip() for block in re.findall(r"^```bash\n(.*?)^```", README, re.MULTILINE | re.DOTALL)]
INSTALL, SETTINGS, TABLES, WEB, WORKER, COMMENTS, PAGE = BLOCKS

pytestmark = pytest.mark.timeout(240)  # two servers, two processes and a database are set up once


@dataclass(frozen=True, slots=True)
class Blog:
    """The running example."""

    directory: Path
    env: dict[str, str]
    postgres: Postgres
    akismet: Akismet
    worker: WorkerProcess

    def run(self, command: str) -> str:
        """Run a command of the README's in the shell; its standard output."""
        done = subprocess.run(
            ["bash", "-c", f"set -e\n{command}"], cwd=self.directory, env=self.env,
            capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        return self.postgres.query(self.env["PGDATABASE"], statement, *values)

    def comment(self, name: str, text: str) -> str:
        """Say something, changing only who says it and what; the answer."""
        command = COMMENTS.splitlines()[0].replace("name=Ann", f"name={name}").replace("=Welcome", f"={text}")
        return self.run(command)


@pytest.fixture(scope="module")
def blog(rabbitmq: RabbitMQ, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Blog]:
    require("curl")
    rabbitmq.ensure_running()
    vhost = rabbitmq.new_vhost()
    place = tmp_path_factory.mktemp("blog")
    directory = place / "blog"
    shutil.copytree(EXAMPLE, directory, ignore=shutil.ignore_patterns("__pycache__"))
    with akismet() as service:
        own = {
            **postgres.environment(postgres.new_database()),
            "BROKER_URL": vhost, "PORT": str(free_port()), "AKISMET_URL": service.url, "AKISMET_KEY": KEY,
        }  # fmt: skip
        env = {
            **os.environ, **own, "C_FORCE_ROOT": "1",
            "PATH": f"{programs(place / 'bin')}:{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join([str(EXAMPLE.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]),
        }  # fmt: skip
        assert set(re.findall(r"(\w+)=", SETTINGS)) == own.keys(), "what the README lets one say is what the tests say"
        worker = process(WORKER, directory, env)
        made = Blog(directory, env, postgres, service, worker)
        made.run(TABLES)
        made.run("python manage.py makemigrations --check --dry-run")
        with process(WEB, directory, env) as web, worker:
            web.wait_for_line(r"Starting development server", timeout=60)
            worker.wait_for_line(r"ready\.$", timeout=60)
            yield made
            worker.terminate()
            assert worker.wait() == 0
    rabbitmq.ensure_running()
    rabbitmq.delete_vhost(vhost)


def test_what_is_to_be_installed_is_what_the_tests_use() -> None:
    assert INSTALL == "pip install -r requirements.txt"
    wanted = {re.split(r"[\[>]", line)[0] for line in (EXAMPLE / "requirements.txt").read_text().splitlines()}
    assert wanted == {"django", "psycopg", "turbo-worker"}


def test_the_examples_project_names_celery_nowhere_but_in_its_settings() -> None:
    sources = [path.read_text() for path in EXAMPLE.rglob("*.py")]
    assert not [text for text in sources if re.search(r"^\s*(from|import) celery", text, re.MULTILINE)]


@pytest.mark.row("DJ1", "DJ2", "DJ3", "DJ4", "DJ7", "DJ11")
def test_spam_disappears_and_the_rest_stays(blog: Blog) -> None:
    assert SPAMMER in COMMENTS
    assert "Nobody has said anything yet" in blog.run(PAGE)
    blog.run(COMMENTS)

    def filtered() -> bool:
        found = blog.query("SELECT name, is_spam FROM blog_comment ORDER BY id")
        return found == [("Ann", False), (SPAMMER, True)]

    wait_until("the spam is found", filtered, 60)
    page = blog.run(PAGE)
    assert "<b>Ann</b>: Welcome" in page
    assert SPAMMER not in page
    wait_until("both comments are asked about", lambda: len(blog.akismet.asked) >= 4, 60)
    about = [form for question, form in blog.akismet.asked if question == "comment-check"]
    assert {form["comment_author"] for form in about} == {"Ann", SPAMMER}
    assert {form["user_ip"] for form in about} == {"127.0.0.1"}
    assert {form["blog"] for form in about} == {"http://example.com"}
    blog.worker.wait_for_line(r"blog\.tasks\.spam_filter\[\S+\]: Running spam filter for comment 1$", timeout=30)


def test_a_comment_that_is_refused_is_not_asked_about(blog: Blog) -> None:
    before = blog.query("SELECT count(*) FROM blog_comment")
    assert "<form" in blog.run(COMMENTS.splitlines()[0].replace("ann@example.com", "nobody"))
    assert blog.query("SELECT count(*) FROM blog_comment") == before


def test_akismet_is_asked_again_when_it_does_not_answer(blog: Blog) -> None:
    blog.akismet.failures = 1
    blog.comment(SPAMMER, "later")
    spam = "SELECT is_spam FROM blog_comment WHERE comment = 'later'"
    wait_until("the spam is found at the second attempt", lambda: blog.query(spam) == [(True,)], 60)
    blog.worker.wait_for_line(r"spam_filter\[\S+\] retry: Retry in \S+: Unreachable", timeout=30)


@pytest.mark.row("DJ5")
def test_the_next_comment_survives_the_end_of_every_connection(blog: Blog) -> None:
    for text in ("one", "two", "three", "four"):
        blog.comment(SPAMMER, text)
    blog.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    for text in ("five", "six", "seven", "eight"):  # more than there are children
        blog.comment(SPAMMER, text)
    looked = "SELECT count(*) FROM blog_comment WHERE is_spam AND comment IN ('five', 'six', 'seven', 'eight')"
    wait_until("all of them are found", lambda: blog.query(looked) == [(4,)], 60)
