"""``examples/django_blog`` as its README says: turbo's own API in a Django project, every command on real servers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.ecosystem.akismet_server import KEY, SPAMMER, Akismet, akismet
from tests.ecosystem.readme_example import Example, Readme, copied
from tests.harness.postgres import Postgres
from tests.harness.processes import wait_until
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.worker import WorkerProcess

README = Readme("django_blog")
INSTALL, SETTINGS, TABLES, WEB, WORKER, COMMENTS, PAGE = README.commands

pytestmark = pytest.mark.timeout(600)  # two servers, two processes and a database are set up once


@dataclass(frozen=True, slots=True)
class Blog:
    """The running example."""

    example: Example
    akismet: Akismet
    worker: WorkerProcess

    def run(self, command: str) -> str:
        return self.example.run(command)

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        return self.example.query(statement, *values)

    def comment(self, name: str, text: str) -> str:
        """Say something, changing only who says it and what; the answer."""
        command = COMMENTS.splitlines()[0].replace("name=Ann", f"name={name}").replace("=Welcome", f"={text}")
        return self.run(command)


@pytest.fixture(scope="module")
def blog(rabbitmq: RabbitMQ, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Blog]:
    place = tmp_path_factory.mktemp("blog")
    with akismet() as service:
        more = {"AKISMET_URL": service.url, "AKISMET_KEY": KEY}
        with copied(README, SETTINGS, more, rabbitmq=rabbitmq, postgres=postgres, place=place) as example:
            example.run(TABLES)
            example.run("python manage.py makemigrations --check --dry-run")
            with example.process(WEB) as web, example.process(WORKER) as worker:
                web.wait_for_line(r"Starting development server", timeout=60)
                worker.wait_for_line(r"ready\.$", timeout=60)
                yield Blog(example, service, worker)
                worker.terminate()
                assert worker.wait() == 0


def test_what_is_to_be_installed_is_what_the_tests_use() -> None:
    assert INSTALL == "pip install -r requirements.txt"
    assert README.installed == {"django", "psycopg", "../.."}


def test_the_examples_project_names_celery_nowhere_but_in_its_settings() -> None:
    sources = [path.read_text() for path in README.directory.rglob("*.py")]
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
    blog.worker.wait_for_line(r"blog\.tasks\.spam_filter\[\S+\]: Running spam filter for comment 1$", timeout=60)


def test_a_comment_that_is_refused_is_not_asked_about(blog: Blog) -> None:
    before = blog.query("SELECT count(*) FROM blog_comment")
    assert "<form" in blog.run(COMMENTS.splitlines()[0].replace("ann@example.com", "nobody"))
    assert blog.query("SELECT count(*) FROM blog_comment") == before


def test_akismet_is_asked_again_when_it_does_not_answer(blog: Blog) -> None:
    blog.akismet.failures = 1
    blog.comment(SPAMMER, "later")
    spam = "SELECT is_spam FROM blog_comment WHERE comment = 'later'"
    wait_until("the spam is found at the second attempt", lambda: blog.query(spam) == [(True,)], 60)
    blog.worker.wait_for_line(r"spam_filter\[\S+\] retry: Retry in \S+: Unreachable", timeout=60)


@pytest.mark.row("DJ5")
def test_the_next_comment_survives_the_end_of_every_connection(blog: Blog) -> None:
    for text in ("one", "two", "three", "four"):
        blog.comment(SPAMMER, text)
    blog.example.end_connections()
    for text in ("five", "six", "seven", "eight"):  # more than there are children
        blog.comment(SPAMMER, text)
    looked = "SELECT count(*) FROM blog_comment WHERE is_spam AND comment IN ('five', 'six', 'seven', 'eight')"
    wait_until("all of them are found", lambda: blog.query(looked) == [(4,)], 60)
