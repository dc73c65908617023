"""A package that the configuration needs and that is not installed: said when a worker starts, or before a send."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pika
import pytest

from tests.harness.worker import WorkerProcess

_APP = """
if {lib!r} == "turbo":
    from turbo import Celery
else:
    from celery import Celery
app = Celery("extras", broker={broker!r}, backend={backend!r})
app.conf.update(task_default_queue="extras", **{settings!r})

@app.task(name="noop")
def noop():
    pass
"""
#: Leaves packages out, as if they were not installed, and then does what is to be done.
_WITHOUT = "import sys; sys.modules.update(dict.fromkeys({absent!r})); {then}"
_WORKER = "sys.argv = ['turbo', '-A', 'extras_app', 'worker', '-c', '1']; from turbo.cli.main import main; main()"
REDIS = "redis://127.0.0.1:1/0"
SQLITE = "db+sqlite:///results.db"


def _run(
    place: Path, broker: str, absent: list[str], then: str, lib: str = "turbo", **settings: object
) -> tuple[int, str]:
    backend = settings.pop("backend", "rpc://")
    (place / "extras_app.py").write_text(_APP.format(lib=lib, broker=broker, backend=backend, settings=settings))
    script = _WITHOUT.format(absent=absent, then=then)
    with WorkerProcess("-c", script, directory=place, command=(sys.executable,), env={"C_FORCE_ROOT": "1"}) as process:
        return process.wait(60), process.output


@pytest.mark.row("CF4")
@pytest.mark.parametrize(
    ("absent", "settings", "line"),
    [
        (["redis"], {"backend": REDIS}, r"result_backend: results in Redis needs redis: .*turbo-worker\[redis\]"),
        (["hiredis"], {"backend": REDIS}, r"result_backend: results in Redis needs hiredis: .*turbo-worker\[redis\]"),
        (
            ["sqlalchemy"],
            {"backend": SQLITE},
            r"result_backend: results in a database needs sqlalchemy: .*turbo-worker\[sql\]",
        ),
        (
            [],
            {"backend": "db+postgresql+pg8000://h/d"},
            r"result_backend: the driver pg8000 is not installed: .*db\+postgresql\+psycopg://",
        ),
        (["yaml"], {"task_serializer": "yaml"}, r"task_serializer: 'yaml' needs yaml: .*turbo-worker\[yaml\]"),
        (
            ["msgpack"],
            {"accept_content": ["json", "msgpack"]},
            r"accept_content: 'msgpack' needs .*\[msgpack\]",
        ),
        (["brotli"], {"task_compression": "brotli"}, r"task_compression: 'brotli' needs the extra: .*\[compression\]"),
        (
            [],
            {"result_serializer": "jsno"},
            r"result_serializer names an unknown serializer: 'jsno'; did you mean 'json'",
        ),
        (
            [],
            {"task_compression": "gzpi"},
            r"task_compression names an unknown .*: 'gzpi'; did you mean 'gzip'",
        ),
        ([], {"backend": "reddis://h"}, r"result_backend 'reddis' cannot be used: .*; did you mean 'redis'\?"),
    ],
)
def test_a_worker_does_not_start_without_what_it_needs(
    absent: list[str], settings: dict[str, object], line: str, tmp_path: Path, vhost: str
) -> None:
    code, output = _run(tmp_path, vhost, absent, _WORKER, **settings)
    assert code == 1
    (said,) = output.splitlines()
    assert re.search(line, said), said


@pytest.mark.row("CF4")
@pytest.mark.parametrize(
    ("absent", "settings", "line"),
    [
        (["redis"], {"backend": REDIS}, "the result backend cannot be used: .*redis"),
        (["yaml"], {"task_serializer": "yaml"}, r"task_serializer: 'yaml' needs yaml: .*turbo-worker\[yaml\]"),
        ([], {"event_serializer": "jsno"}, "event_serializer names an unknown serializer: 'jsno'; did you mean 'json'"),
    ],
)
def test_nor_does_one_of_a_celery_app(
    absent: list[str], settings: dict[str, object], line: str, tmp_path: Path, vhost: str
) -> None:
    code, output = _run(tmp_path, vhost, absent, _WORKER, lib="celery", **settings)
    assert code == 1, output
    assert re.search(line, output), output
    assert "Traceback" not in output


@pytest.mark.row("CF4")
@pytest.mark.parametrize(
    ("absent", "settings", "line"),
    [
        (["sqlalchemy"], {"backend": SQLITE}, "results in a database need sqlalchemy: pip install"),
        (["redis"], {"backend": REDIS}, "results in Redis need redis: pip install"),
        (["yaml"], {"task_serializer": "yaml"}, "YAML messages need PyYAML"),
        (["brotli"], {"task_compression": "brotli"}, "compression 'brotli' needs"),
        ([], {"backend": "reddis://h"}, "result_backend 'reddis' cannot be used: "),
    ],
)
def test_a_client_sends_nothing_that_it_could_not_read_the_result_of(
    absent: list[str], settings: dict[str, object], line: str, tmp_path: Path, vhost: str
) -> None:
    code, output = _run(tmp_path, vhost, absent, "from extras_app import noop; noop.delay()", **settings)
    assert code == 1
    assert line in output.splitlines()[-1]
    with pika.BlockingConnection(pika.URLParameters(vhost)) as connection:
        left = connection.channel().queue_declare("extras", durable=True).method.message_count
    assert left == 0
