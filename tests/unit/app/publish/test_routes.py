from __future__ import annotations

import re
from typing import Any

import kombu
import pytest
from kombu.transport import native_delayed_delivery as delivery

from turbo.amqp.delayed_delivery import Delays
from turbo.amqp.topology import Exchange, Queue
from turbo.app.conf.conf import Settings
from turbo.app.publish.routes import Destination, MapRoute, TaskRouter
from turbo.exceptions import ImproperlyConfigured, QueueNotFound


def router(**settings: Any) -> TaskRouter:
    return TaskRouter(Settings(settings))


def where(name: str = "t", /, *, settings: dict[str, Any] | None = None, **options: Any) -> Destination:
    made = router(**(settings or {}))
    return made.destination(made.route(options, name))


class TestDestination:
    @pytest.mark.row("WP25", "CF6")
    def test_by_default_straight_to_the_default_queue(self) -> None:
        to = where()
        assert (to.exchange, to.routing_key, to.queue_name) == ("", "celery", "celery")
        assert to.declare == (Queue("celery", Exchange("celery"), "celery"),)

    @pytest.mark.row("CA11")
    def test_a_queue_by_name_is_made_up(self) -> None:
        to = where(queue="video")
        assert (to.exchange, to.routing_key) == ("", "video")
        assert to.declare == (Queue("video", Exchange("video"), "video"),)

    @pytest.mark.row("CA11", "CF7")
    def test_unknown_queues_are_refused_when_asked(self) -> None:
        with pytest.raises(QueueNotFound, match="video"):
            where(settings={"task_create_missing_queues": False}, queue="video")

    @pytest.mark.row("CF7")
    def test_made_up_queues_take_their_kind_from_the_settings(self) -> None:
        settings = {"task_create_missing_queue_type": "quorum", "task_create_missing_queue_exchange_type": "topic"}
        (queue,) = where(settings=settings, queue="video").declare
        assert queue.quorum and queue.exchange == Exchange("video", "topic")
        with pytest.raises(ImproperlyConfigured, match="lazy"):
            where(settings={"task_create_missing_queue_type": "lazy"}, queue="video")

    @pytest.mark.row("CF6", "CF7")
    def test_the_default_queue_takes_its_kind_from_the_settings(self) -> None:
        settings = {
            "task_default_queue": "dft", "task_default_exchange": "ex", "task_default_exchange_type": "topic",
            "task_default_routing_key": "key", "task_default_queue_type": "quorum",
        }  # fmt: skip
        to = where(settings=settings)
        assert (to.exchange, to.routing_key) == ("ex", "key")
        assert to.declare[0].quorum and to.declare[0].exchange == Exchange("ex", "topic")

    @pytest.mark.row("CA12")
    def test_exchange_and_key_together_are_taken(self) -> None:
        to = where(exchange="media", routing_key="media.video")
        assert (to.exchange, to.routing_key) == ("media", "media.video")

    @pytest.mark.row("CA12")
    def test_a_direct_exchange_without_key_goes_to_the_queue(self) -> None:
        assert where(exchange="media").routing_key == "celery"
        assert where(exchange="media", queue="q").exchange == ""

    @pytest.mark.row("CA12")
    def test_a_topic_queue_is_published_to_its_exchange(self) -> None:
        queues = [Queue("usd", Exchange("stock", "topic"), "usd.#")]
        to = where(settings={"task_queues": queues}, queue="usd", routing_key="usd.nyse")
        assert (to.exchange, to.routing_key) == ("stock", "usd.nyse")
        assert where(settings={"task_queues": queues}, queue="usd").routing_key == "usd.#"

    def test_objects_of_kombu_are_read(self) -> None:
        queue = kombu.Queue("k", kombu.Exchange("kx", "topic", delivery_mode=1), "a.b", max_priority=5)
        to = where(settings={"task_queues": [queue]}, queue="k")
        assert (to.exchange, to.routing_key, to.delivery_mode) == ("kx", "a.b", 1)
        assert to.declare[0].queue_arguments == {"x-max-priority": 5}
        direct = where(queue=kombu.Queue("d", kombu.Exchange("dx")))
        assert (direct.exchange, direct.routing_key) == ("", "d")
        assert where(exchange=kombu.Exchange("e"), routing_key="r").exchange == "e"

    def test_broadcast_queues_are_not_declared_by_the_sender(self) -> None:
        from kombu.common import Broadcast

        to = where(settings={"task_queues": [Broadcast("news")]}, queue="news")
        assert (to.exchange, to.declare) == ("news", ())


class TestRoutes:
    @pytest.mark.row("CF7")
    @pytest.mark.parametrize(
        ("routes", "name", "queue"),
        [
            ({"feed.add": "feeds"}, "feed.add", "feeds"),
            ({"feed.add": {"queue": "feeds"}}, "feed.add", "feeds"),
            ({"feed.*": {"queue": "feeds"}}, "feed.add", "feeds"),
            ({"feed.*": {"queue": "feeds"}}, "web.add", "celery"),
            ([{"a": "qa"}, {"b": "qb"}], "b", "qb"),
            (([("feed.*", {"queue": "f"}), (re.compile(r"(video|image)\..*"), {"queue": "m"})],), "image.x", "m"),
            (lambda name, args, kwargs, options, task=None, **kw: {"queue": f"for-{name}"}, "t", "for-t"),
            (lambda name, *_, **__: None, "t", "celery"),
        ],
    )
    def test_forms(self, routes: Any, name: str, queue: str) -> None:
        assert where(name, settings={"task_routes": routes}).routing_key == queue

    @pytest.mark.row("CF7")
    def test_exact_names_win_over_patterns(self) -> None:
        route = MapRoute({"feed.*": "pattern", "feed.add": "exact"})
        assert route("feed.add") == {"queue": "exact"}

    def test_the_calls_options_win_over_the_route(self) -> None:
        settings = {"task_routes": {"t": {"queue": "routed", "priority": 1, "serializer": "yaml"}}}
        made = router(**settings)
        options = made.route({"priority": 9, "queue": "mine", "serializer": None}, "t")
        assert (options["priority"], options["queue"].name, options["serializer"]) == (9, "mine", "yaml")

    def test_a_route_may_name_exchange_and_key(self) -> None:
        settings = {"task_routes": {"t": {"exchange": "x", "exchange_type": "topic", "routing_key": "a.b"}}}
        to = where(settings=settings)
        assert (to.exchange, to.routing_key, to.declare) == ("x", "a.b", ())

    def test_routers_by_path_and_of_the_old_kind(self) -> None:
        assert where(settings={"task_routes": f"{__name__}.OldRouter"}).routing_key == "old"
        assert where(settings={"task_routes": (f"{__name__}:new_router",)}).routing_key == "new"

    def test_nonsense_is_refused(self) -> None:
        with pytest.raises(ImproperlyConfigured, match="task_routes"):
            router(task_routes=(7,))


class OldRouter:
    def route_for_task(self, task: str, args: Any = None, kwargs: Any = None) -> dict[str, Any]:
        return {"queue": "old"}


def new_router(name: str, args: Any, kwargs: Any, options: Any, task: Any = None, **kw: Any) -> str:
    return "new"


class TestDelayed:
    """What the broker holds until it is due, and what it does not."""

    QUORUM = Queue("slow", Exchange("works", "topic"), "slow.#", queue_arguments={"x-queue-type": "quorum"})

    def delayed(self, queue: Queue, seconds: float, **options: Any) -> Destination:
        made = router(task_queues=[queue], broker_native_delayed_delivery_queue_type="classic")
        return made.delayed(made.destination(made.route({"queue": queue.name, **options}, "t")), queue, seconds)

    @pytest.mark.row("TM4")
    @pytest.mark.parametrize("seconds", [1, 1.9, 3600, 2**28 - 1])
    def test_the_key_is_the_one_that_celery_makes(self, seconds: float) -> None:
        to = self.delayed(self.QUORUM, seconds, routing_key="slow.one")
        assert to.exchange == "celery_delayed_27"
        assert to.routing_key == delivery.calculate_routing_key(int(seconds), "slow.one")
        first, second = to.declare
        assert first == self.QUORUM and isinstance(second, Delays)
        assert (second.queue, second.queue_type) == (self.QUORUM, "classic")

    def test_a_message_that_was_delayed_before(self) -> None:
        key = delivery.calculate_routing_key(5, "slow.one")
        assert self.delayed(self.QUORUM, 7, routing_key=key).routing_key == delivery.calculate_routing_key(
            7, "slow.one"
        )

    @pytest.mark.parametrize(
        ("queue", "seconds", "options"),
        [
            (QUORUM, 0.9, {}),
            (QUORUM, -5, {}),
            (QUORUM, 2**28, {}),
            (QUORUM, 5, {"routing_key": "x" * 255}),
            (QUORUM, 5, {"exchange": "elsewhere", "exchange_type": "topic", "routing_key": "k"}),
            (Queue("classic", Exchange("works", "topic"), "k"), 5, {}),
            (Queue("direct", Exchange("d"), "k", queue_arguments={"x-queue-type": "quorum"}), 5, {}),
        ],
    )
    def test_what_goes_straight_to_its_queue(self, queue: Queue, seconds: float, options: dict[str, Any]) -> None:
        to = self.delayed(queue, seconds, **options)
        assert "delayed" not in to.exchange
        assert not any(isinstance(each, Delays) for each in to.declare)
