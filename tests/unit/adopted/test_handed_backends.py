"""Which backends leave their results to the master, and where it stores them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
import wrapt
from celery import Celery
from celery.app.amqp import AMQP
from celery.backends.redis import RedisBackend
from celery.backends.rpc import RPCBackend
from kombu.messaging import Producer

from turbo.adopted import handed_backends
from turbo.adopted.app import AdoptedApp
from turbo.adopted.handed_backends import can_be_handed, is_untouched
from turbo.exceptions import ImproperlyConfigured


def call(wrapped: Callable[..., Any], _instance: object, args: Any, kwargs: Any) -> Any:
    """Call what is wrapped, as a tracing library would."""
    return wrapped(*args, **kwargs)


class TestWhere:
    @pytest.fixture(autouse=True)
    def server_with_scripts(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.setattr(handed_backends, "_runs_scripts", lambda _: True)
        yield

    @staticmethod
    def app(url: str, **settings: Any) -> Celery:
        return Celery("proj", broker="memory://", backend=url, set_as_current=False, changes=settings)

    @pytest.mark.parametrize(
        ("url", "expected"),
        [
            ("redis://", "redis://localhost:6379/0"),
            ("redis://h:7/3", "redis://h:7/3"),
            ("redis://:p%40ss@h", "redis://:p%40ss@h:6379/0"),
            ("redis://me:p%2Fss@h:7/1", "redis://me:p%2Fss@h:7/1"),
            ("redis://[::1]:7/1", "redis://[::1]:7/1"),
            ("redis://h?socket_timeout=3", "redis://h:6379/0"),
        ],
    )
    def test_one_plain_redis(self, url: str, expected: str) -> None:
        assert can_be_handed(self.app(url)) == expected

    def test_a_login_from_the_settings(self) -> None:
        app = self.app("redis://h", redis_username="me", redis_password="secret")

        assert can_be_handed(app) == "redis://me:secret@h:6379/0"

    @pytest.mark.parametrize(
        ("url", "settings"),
        [
            ("rediss://h?ssl_cert_reqs=required", {}),
            ("redis+socket:///run/redis.sock", {}),
            ("sentinel://h:1;sentinel://h:2", {"result_backend_transport_options": {"master_name": "m"}}),
            ("redis://h?client_name=app", {}),
            ("redis://h", {"redis_client_name": "app"}),
            ("redis://h?health_check_interval=5", {}),
            ("cache+memory://", {}),
            ("disabled://", {}),
        ],
    )
    def test_anything_else_is_celery_s(self, url: str, settings: dict[str, Any]) -> None:
        assert can_be_handed(self.app(url, **settings)) is None

    def test_a_prefix_is_kept(self) -> None:
        app = self.app("redis://h", result_backend_transport_options={"global_keyprefix": "mine"})

        assert can_be_handed(app) == "redis://h:6379/0"

    def test_a_backend_of_the_user_s(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Own(RedisBackend):
            """Whatever it does."""

        app = self.app("redis://h")
        assert is_untouched(app)
        own = self.app("redis://h")
        own._backend = Own(app=own, url="redis://h")
        assert not is_untouched(own)
        monkeypatch.setattr(app.backend, "set", lambda *_: None)
        assert not is_untouched(app)

    def test_a_library_that_listens(self, monkeypatch: pytest.MonkeyPatch) -> None:
        inner = redis.client.Pipeline.execute
        monkeypatch.setattr(redis.client.Pipeline, "execute", lambda *args, **options: inner(*args, **options))

        assert can_be_handed(self.app("redis://h")) is None

    @pytest.mark.parametrize(
        ("owner", "name"),
        [(redis.client.Pipeline, "execute"), (RedisBackend, "_store_result"), (RedisBackend, "mark_as_done")],
    )
    def test_a_wrapper_that_passes_for_what_it_wraps(
        self, monkeypatch: pytest.MonkeyPatch, owner: type, name: str
    ) -> None:
        monkeypatch.setattr(owner, name, wrapt.FunctionWrapper(vars(owner).get(name) or getattr(owner, name), call))

        assert can_be_handed(self.app("redis://h")) is None

    def test_without_the_parser_the_master_cannot(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(handed_backends, "find_spec", lambda _: None)

        assert can_be_handed(self.app("redis://h")) is None


class TestReplies:
    @staticmethod
    def app(**settings: Any) -> Celery:
        return Celery("proj", broker="memory://", backend="rpc://", set_as_current=False, changes=settings)

    @pytest.mark.parametrize(
        "settings", [{}, {"result_persistent": True}, {"result_serializer": "pickle"}, {"result_extended": True}]
    )
    def test_celery_s_own(self, settings: dict[str, Any]) -> None:
        assert can_be_handed(self.app(**settings)) == "rpc://"

    @pytest.mark.parametrize("persistent", [True, False])
    def test_replies_are_as_persistent_as_celery_s(self, persistent: bool) -> None:
        url, settings = AdoptedApp(self.app(result_persistent=persistent)).result_store()

        assert (url, settings.persistent) == ("rpc://", persistent)

    def test_without_confirms_its_order_would_be_lost(self) -> None:
        assert can_be_handed(self.app(broker_transport_options={"confirm_publish": False})) is None

    def test_a_backend_of_the_user_s(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Own(RPCBackend):
            """Whatever it does."""

        app = self.app()
        app._backend = Own(app=app)
        assert can_be_handed(app) is None
        app = self.app()
        monkeypatch.setattr(app.backend, "on_reply_declare", lambda _: [])
        assert can_be_handed(app) is None

    def test_a_publishing_part_of_the_user_s(self) -> None:
        class Own(AMQP):
            """Whatever it does."""

        app = self.app()
        app.amqp = Own(app)
        assert can_be_handed(app) is None

    @pytest.mark.parametrize(
        ("owner", "name"), [(Producer, "publish"), (RPCBackend, "store_result"), (RPCBackend, "destination_for")]
    )
    def test_a_library_that_listens(self, monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> None:
        inner = getattr(owner, name)
        for wrapper in (lambda *args, **options: inner(*args, **options), wrapt.FunctionWrapper(inner, call)):
            monkeypatch.setattr(owner, name, wrapper)
            assert can_be_handed(self.app()) is None


def test_a_backend_that_celery_refuses_is_refused_by_name() -> None:
    app = Celery("proj", broker="amqp://", backend="nosuch://", set_as_current=False)

    with pytest.raises(ImproperlyConfigured, match="nosuch"):
        AdoptedApp(app).result_store()


def test_a_server_that_is_away_leaves_the_results_to_celery() -> None:
    app = Celery("proj", broker="memory://", backend="redis://127.0.0.1:1/0", set_as_current=False)

    assert can_be_handed(app) is None
