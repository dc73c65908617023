"""docs/routing.md: its examples, run one after the other, and what they are said to do."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from tests.docs.pages import examples
from turbo import Turbo
from turbo.app.publish.routes import Destination


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the examples define; they name a module with a router, which is made here."""
    routers = ModuleType("shop_routers")
    routers.by_customer = (  # type: ignore[attr-defined]
        lambda name, args, kwargs, options, task=None: {"queue": "video"} if kwargs.get("customer") == "first" else None
    )
    monkeypatch.setitem(sys.modules, "shop_routers", routers)
    found: dict[str, Any] = {"__name__": "shop"}
    for number, example in enumerate(examples("routing.md")):
        exec(compile(example, f"routing.md, example {number + 1}", "exec"), found)
    return found


def _where(app: Turbo, name: str, kwargs: dict[str, Any] | None = None, **options: Any) -> Destination:
    router = app.sending.router
    return router.destination(router.route(options, name, (), kwargs or {}))


def test_tasks_go_where_the_page_says(names: dict[str, Any]) -> None:
    app = names["app"]
    for name, kwargs, place in (
        ("shop.compress", {}, ("tasks", "video.compress")),
        ("shop.images.rotate", {}, ("tasks", "image.any")),
        ("shop.mail_customer", {}, ("tasks", "misc.#")),
        ("shop.other", {"customer": "first"}, ("tasks", "video.#")),
        ("shop.other", {}, ("tasks", "misc.#")),
    ):
        to = _where(app, name, kwargs)
        assert (to.exchange, to.routing_key) == place, name
    to = _where(app, "shop.compress", routing_key="video.other")
    assert to.routing_key == "video.other"


def test_settings_are_what_the_page_says(names: dict[str, Any]) -> None:
    app = names["app"]
    assert (app.conf.task_acks_late, app.conf.timezone, app.conf.task_time_limit) == (True, "Europe/Vienna", 60)
    (news,) = app.worker_queues(["news", "video"], ["video"])
    assert news.name.startswith("bcast.")
    assert set(app.tasks) >= {"shop.compress"}
