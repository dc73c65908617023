from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.unit.app.recording import make_app
from turbo.app.conf.conf import Settings
from turbo.exceptions import ImproperlyConfigured


def test_defaults() -> None:
    conf = Settings()
    assert conf.task_serializer == "json"
    assert conf["task_default_queue"] == "celery"
    assert conf.task_default_exchange == "celery"
    assert conf.task_default_routing_key == "celery"
    assert "task_serializer" in conf
    assert not conf.is_set("task_serializer")


@pytest.mark.row("CF1")
def test_attribute_item_and_update_are_one() -> None:
    conf = Settings()
    conf.task_acks_late = True
    conf["task_time_limit"] = 10
    conf.update(worker_concurrency=3, CELERY_TASK_SERIALIZER="yaml")
    assert (conf["task_acks_late"], conf.task_time_limit, conf.worker_concurrency) == (True, 10, 3)
    assert conf.task_serializer == conf["CELERY_TASK_SERIALIZER"] == "yaml"
    del conf["task_acks_late"]
    assert conf.task_acks_late is False


def test_unknown_settings_can_be_set_and_read() -> None:
    conf = Settings(source={"my_colour": "red"})
    conf.my_size = 3
    assert (conf.my_colour, conf.my_size) == ("red", 3)
    with pytest.raises(AttributeError, match="my_weight"):
        _ = conf.my_weight
    with pytest.raises(KeyError):
        _ = conf["my_weight"]


@pytest.mark.row("CF1")
def test_the_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    conf = Settings({"broker_url": "amqp://set", "result_backend": "rpc://"}, source={"broker_url": "amqp://source"})
    assert conf.broker_url == "amqp://set"
    assert conf.broker_read_url == conf.broker_write_url == "amqp://set"
    monkeypatch.setenv("CELERY_BROKER_URL", "amqp://env")
    monkeypatch.setenv("CELERY_BROKER_READ_URL", "amqp://read")
    monkeypatch.setenv("CELERY_RESULT_BACKEND", "redis://env")
    conf = Settings({"broker_url": "amqp://set", "result_backend": "rpc://"})
    assert (conf.broker_url, conf.broker_write_url, conf.broker_read_url) == ("amqp://env", "amqp://env", "amqp://read")
    assert conf.result_backend == "redis://env"


@pytest.mark.row("CF1")
def test_what_the_program_sets_wins_over_the_configuration_object() -> None:
    app = make_app(broker="amqp://constructor")
    app.config_from_object({"broker_url": "amqp://object", "task_acks_late": True})
    app.conf.task_acks_late = False
    assert (app.conf.broker_url, app.conf.task_acks_late) == ("amqp://constructor", False)


def test_added_defaults_lie_between(monkeypatch: pytest.MonkeyPatch) -> None:
    app = make_app(task_time_limit=1)
    app.config_from_object({"task_soft_time_limit": 2, "task_track_started": True})
    app.add_defaults({"task_time_limit": 8, "task_soft_time_limit": 9})
    assert (app.conf.task_time_limit, app.conf.task_soft_time_limit) == (1, 9)
    assert app.conf.task_track_started is True


@pytest.mark.row("CF1", "DJ1")
@pytest.mark.parametrize("namespace", ["CELERY", "CELERY_"])
def test_a_namespace_is_a_prefix(namespace: str) -> None:
    app = make_app()
    settings = SimpleNamespace(
        CELERY_BROKER_URL="amqp://n", CELERY_TASK_ACKS_LATE=True, CELERY_ACCEPT_CONTENT=["json", "yaml"],
        TIME_ZONE="Europe/Berlin", DEBUG=True,
    )  # fmt: skip
    app.config_from_object(settings, namespace=namespace)
    assert app.conf.broker_url == "amqp://n"
    assert app.conf.task_acks_late is True
    assert app.conf.accept_content == ("json", "yaml")
    assert app.conf.timezone == "Europe/Berlin"
    assert str(app.timezone) == "Europe/Berlin"


@pytest.mark.row("CF1")
def test_a_path_is_imported_at_the_first_look(monkeypatch: pytest.MonkeyPatch) -> None:
    app = make_app()
    app.config_from_object("celeryconfig_of_this_test")
    module: Any = ModuleType("celeryconfig_of_this_test")
    module.task_default_queue = "fromfile"
    monkeypatch.setitem(sys.modules, "celeryconfig_of_this_test", module)
    assert app.conf.task_default_queue == "fromfile"


def test_a_missing_configuration_module_raises_unless_silent() -> None:
    app = make_app()
    app.config_from_object("no_such_module_here")
    with pytest.raises(ModuleNotFoundError):
        _ = app.conf.broker_url
    app.config_from_object("no_such_module_here", silent=True)
    assert app.conf.task_serializer == "json"


@pytest.mark.row("CF1")
def test_the_environment_names_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    app = make_app()
    with pytest.raises(ImproperlyConfigured, match="MY_CONFIG"):
        app.config_from_envvar("MY_CONFIG")
    app.config_from_envvar("MY_CONFIG", silent=True)
    module: Any = ModuleType("another_config")
    module.CELERY_IGNORE_RESULT = True
    monkeypatch.setitem(sys.modules, "another_config", module)
    monkeypatch.setenv("MY_CONFIG", "another_config")
    app.config_from_envvar("MY_CONFIG")
    assert app.conf.task_ignore_result is True


@pytest.mark.row("CF2")
def test_old_names_alone_are_fine_and_mixed_ones_are_not() -> None:
    conf = Settings(source={"BROKER_URL": "amqp://old", "CELERYD_CONCURRENCY": 2})
    assert (conf.broker_url, conf.worker_concurrency) == ("amqp://old", 2)
    conf = Settings(source={"broker_url": "amqp://new", "task_acks_late": True, "CELERYD_CONCURRENCY": 2})
    with pytest.raises(ImproperlyConfigured, match=r"CELERYD_CONCURRENCY +-> worker_concurrency"):
        _ = conf.broker_url
    twice = Settings(source={"result_expires": 5, "CELERY_TASK_RESULT_EXPIRES": 5})
    assert twice.result_expires == 5


@pytest.mark.row("CF29")
def test_unknown_names_are_no_error() -> None:
    assert Settings(source={"no_such_setting": 1}).check_supported() == []


def test_containers_of_the_defaults_belong_to_one_app() -> None:
    one, other = Settings(), Settings()
    one.broker_transport_options["confirm_publish"] = False
    one.task_acks_late = True
    assert one.broker_transport_options == {"confirm_publish": False}
    assert other.broker_transport_options == {}


def test_a_bad_value_is_named() -> None:
    with pytest.raises(ImproperlyConfigured, match="worker_prefetch_multiplier"):
        _ = Settings({"worker_prefetch_multiplier": "x"}).worker_prefetch_multiplier


class TestCheckSupported:
    def test_nothing_set_nothing_said(self) -> None:
        assert Settings().check_supported() == []

    def test_settings_without_effect_warn(self) -> None:
        conf = Settings({"worker_timer": "x", "worker_pool_restarts": False, "worker_lost_wait": 3})
        warnings = conf.check_supported()
        assert [w.split()[0] for w in warnings] == ["worker_lost_wait", "worker_timer"]

    def test_refused_settings_are_all_named(self) -> None:
        conf = Settings({"worker_consumer": "proj:Mine", "task_protocol": 1, "worker_direct": False})
        with pytest.raises(ImproperlyConfigured, match=r"task_protocol=1.*worker_consumer='proj:Mine'"):
            conf.check_supported()

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("worker_detect_quorum_queues", False),
            ("worker_detect_quorum_queues", None),
            ("worker_lost_wait", 0),
            ("worker_autoscaler", None),
            ("result_failure_expires", 0),
        ],
    )
    def test_settings_without_effect_warn_also_when_they_are_off(self, name: str, value: object) -> None:
        (warning,) = Settings({name: value}).check_supported()
        assert warning.startswith(f"{name} has no effect: ")

    @pytest.mark.parametrize(("name", "value"), [("task_protocol", 0), ("worker_consumer", "")])
    def test_settings_are_refused_also_when_they_are_off(self, name: str, value: object) -> None:
        with pytest.raises(ImproperlyConfigured, match=f"^{name}={value!r} is not supported: "):
            Settings({name: value}).check_supported()

    @pytest.mark.parametrize("off", [None, False, 0, ""])
    def test_what_is_off_by_default_may_be_off_in_other_words(self, off: object) -> None:
        settings = {"worker_pool_restarts": off, "security_key": off, "worker_agent": off, "s3_bucket": off}
        assert Settings(settings).check_supported() == []

    @pytest.mark.parametrize(
        "setting",
        [
            {"worker_pool": "prefork"},
            {"task_protocol": 2},
            {"broker_transport": "amqp"},
            {"worker_enable_prefetch_count_reduction": False, "worker_pool_putlocks": False},
            {"worker_disable_rate_limits": True},
        ],
    )
    def test_harmless_values_pass(self, setting: dict[str, object]) -> None:
        assert Settings(setting).check_supported() == []

    def test_wrong_types_are_found_at_start(self) -> None:
        with pytest.raises(ImproperlyConfigured, match="task_time_limit"):
            Settings({"task_time_limit": "soon"}).check_supported()


def test_the_table_hides_secrets() -> None:
    conf = Settings({"broker_url": "amqp://me:secret@host//", "redis_password": "secret"})
    text = conf.humanize()
    assert "secret" not in text and "me:" in text
    assert conf.table(censored=False)["redis_password"] == "secret"
    assert "task_serializer" not in conf.table()
    assert conf.table(with_defaults=True)["task_serializer"] == "json"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("broker_url", "amqp://me:topsecret@host//"),
        ("broker_url", "amqp://me:top/secret@topsecret@host//"),
        ("broker_url", "amqp://me:topsecret@a;amqp://me:topsecret@b"),
        ("broker_read_url", ["amqp://me:topsecret@a", "amqp://me:topsecret@b"]),
        ("result_backend", "redis://host/1?password=topsecret&db=2"),
        ("broker_use_ssl", {"keyfile": "topsecret", "password": "topsecret"}),
        ("result_backend_transport_options", {"sentinel_kwargs": [{"password": "topsecret"}]}),
        ("security_key_password", b"topsecret"),
        ("anything", b"amqp://me:topsecret@host"),
        ("my_api_token", "topsecret"),
    ],
)
def test_no_secret_is_shown(name: str, value: object) -> None:
    conf = Settings({name: value})
    assert "topsecret" not in conf.humanize()
    assert "********" in conf.humanize()
    assert conf.table(censored=False)[name] == value


def test_what_is_no_secret_is_shown() -> None:
    conf = Settings({"broker_url": "amqp://me:x@a:1/v;amqp://b//", "redis_password": 12, "task_acks_late": True})
    assert conf.table()["broker_url"] == "amqp://me:********@a:1/v;amqp://b//"
    assert conf.table()["task_acks_late"] is True and conf.table()["redis_password"] == "********"


def test_version_grows_with_each_change() -> None:
    conf = Settings()
    before = conf.version
    conf.task_acks_late = True
    assert conf.version > before


def test_a_change_during_a_look_up_is_not_forgotten() -> None:
    class Source:
        """A configuration object whose look-up takes so long that another thread changes a setting meanwhile."""

        @property
        def task_default_queue(self) -> str:
            if "task_default_queue" not in changed:
                changed.append("task_default_queue")
                conf.task_default_queue = "changed"
            return "old"

    changed: list[str] = []
    conf = Settings(source=Source())
    assert conf.task_default_queue == "old"
    assert conf.task_default_queue == "changed"


def test_what_is_looked_up_while_the_configuration_is_loaded_is_not_kept() -> None:
    seen: list[Any] = []
    conf = Settings(source={"task_default_queue": "mine"}, on_load=lambda: seen.append(conf.task_default_queue))
    assert (conf.task_default_exchange, conf.task_default_queue, seen) == ("mine", "mine", ["celery"])


def test_a_thread_that_comes_while_the_configuration_is_loaded_finds_it_whole() -> None:
    loading, may_load = threading.Event(), threading.Event()

    def load() -> None:
        if not loading.is_set():
            loading.set()
            may_load.wait(30)

    conf = Settings(source={"task_default_queue": "mine"}, on_load=load)
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(lambda: conf.task_default_queue)
        assert loading.wait(30)
        assert conf.task_default_queue == "mine"
        may_load.set()
        assert first.result(30) == "mine"


def test_a_configuration_object_named_by_the_hook_holds() -> None:
    conf = Settings(source={"task_default_queue": "old"}, on_load=lambda: conf.use({"task_default_queue": "new"}))
    assert conf.task_default_queue == "new"


def test_a_configuration_that_fails_to_load_fails_each_time() -> None:
    conf = Settings(source="no_such_configuration")
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError):
            _ = conf.task_default_queue


@pytest.mark.row("CF1")
class TestFrozen:
    @pytest.fixture
    def conf(self) -> Settings:
        made = Settings({"task_time_limit": 10, "redis_password": "secret"}, source={"timezone": "Europe/Vienna"})
        made.freeze()
        return made

    def test_no_setting_changes(self, conf: Settings) -> None:
        version = conf.version
        with pytest.raises(ImproperlyConfigured, match=r"task_time_limit stays 10.*this worker has started"):
            conf.task_time_limit = 20
        with pytest.raises(ImproperlyConfigured, match=r"task_time_limit stays 10"):
            conf.task_time_limit = "soon"
        with pytest.raises(ImproperlyConfigured, match="task_acks_late"):
            conf.update(CELERY_ACKS_LATE=True)
        with pytest.raises(ImproperlyConfigured, match="task_time_limit"):
            del conf["task_time_limit"]
        with pytest.raises(ImproperlyConfigured, match="configuration"):
            conf.use({"task_time_limit": 20})
        with pytest.raises(ImproperlyConfigured, match="task_soft_time_limit"):
            conf.add_defaults({"task_soft_time_limit": 5})
        assert (conf.task_time_limit, conf.task_acks_late, conf.version) == (10, False, version)

    def test_a_password_is_not_shown(self, conf: Settings) -> None:
        with pytest.raises(ImproperlyConfigured) as raised:
            conf.redis_password = "other"
        assert "secret" not in str(raised.value)

    def test_what_changes_nothing_is_no_error(self, conf: Settings) -> None:
        conf.update(task_time_limit="10", timezone="Europe/Vienna", task_acks_late=False)
        conf.add_defaults({"task_time_limit": 20})
        assert (conf.task_time_limit, conf.timezone) == (10, "Europe/Vienna")

    def test_names_of_the_programs_own_are_free(self, conf: Settings) -> None:
        conf.my_colour = "red"
        conf.my_colour = "blue"
        assert conf.my_colour == "blue"
