"""Types that a program has taught kombu's JSON, as arguments and results of turbo's own apps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kombu.utils.json
import pytest

from tests.harness.redis_server import RedisServer
from tests.harness.worker import WorkerProcess
from turbo import Turbo

POINTS = """
from kombu.utils.json import register_type


class Point:
    def __init__(self, x):
        self.x = x


register_type(Point, "Point", lambda point: point.x, Point)
"""
TASKS = """
from points import Point
from turbo import Turbo

app = Turbo("points")


@app.task(name="use")
def use(point):
    return point.x + 1


@app.task(name="give")
def give(x):
    return [Point(x)]
"""


@pytest.fixture
def point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    (tmp_path / "points.py").write_text(POINTS)
    (tmp_path / "tasks.py").write_text(TASKS)
    for registry in ("_encoders", "_decoders"):
        monkeypatch.setattr(kombu.utils.json, registry, dict(getattr(kombu.utils.json, registry)))
    namespace: dict[str, Any] = {}
    exec(POINTS, namespace)
    yield namespace["Point"]


@pytest.mark.row("AO15")
def test_they_go_there_and_back(vhost: str, redis_server: RedisServer, tmp_path: Path, point: Any) -> None:
    settings = {"broker": vhost, "backend": redis_server.new_database()}
    arguments = ("-A", "tasks", "-b", settings["broker"], "--result-backend", settings["backend"], "-c1", "-l", "info")
    with (
        WorkerProcess(*arguments, directory=tmp_path) as worker,
        Turbo("client", set_as_current=False, **settings) as app,
    ):
        worker.wait_for_line(r"ready\.$", 60)
        add = app.signature("use", (point(4),)) | app.signature("give")
        assert app.send_task("use", (point(4),)).get(timeout=60) == 5
        given = add.delay().get(timeout=60)
        assert [type(each) for each in given] == [point]
        assert given[0].x == 5
