from __future__ import annotations

from datetime import timedelta

import pytest
from celery.app import defaults as celery_defaults

from turbo.app.conf.setting import Status
from turbo.app.conf.settings import OLD_NAMES, SETTINGS

CELERY = dict(celery_defaults.flatten(celery_defaults.NAMESPACES))


def test_every_setting_of_celery_is_known() -> None:
    assert not CELERY.keys() - SETTINGS.keys()


@pytest.mark.row(
    "CF4", "CF5", "CF6", "CF7", "CF8", "CF9", "CF10", "CF11", "CF12", "CF13", "CF14", "CF15", "CF20", "CF21", "CF23"
)
def test_defaults_are_celerys() -> None:
    differing = {
        name: (SETTINGS[name].default, option.default)
        for name, option in CELERY.items()
        if SETTINGS[name].default != option.default and SETTINGS[name].status is not Status.ACCEPTED
    }
    assert differing == {"result_expires": (86400.0, timedelta(days=1))}


@pytest.mark.row("CF2")
def test_old_names_are_celerys() -> None:
    assert dict(celery_defaults._TO_NEW_KEY) == {
        old: new for old, new in OLD_NAMES.items() if old in celery_defaults._TO_NEW_KEY
    }
    assert OLD_NAMES["CELERYD_CONCURRENCY"] == "worker_concurrency"
    assert OLD_NAMES["BROKER_URL"] == "broker_url"


def test_a_setting_without_effect_says_why() -> None:
    assert [s.name for s in SETTINGS.values() if s.status is not Status.WORKS and not s.reason] == []
    assert [s.name for s in SETTINGS.values() if not s.doc.endswith(".")] == []


def test_settings_of_turbo_have_no_old_names() -> None:
    assert [s.name for s in SETTINGS.values() if s.name not in CELERY and s.old_names] == []


@pytest.mark.parametrize(
    ("name", "given", "wanted"),
    [
        ("task_acks_late", "true", True),
        ("task_acks_late", "0", False),
        ("task_acks_late", 1, True),
        ("worker_prefetch_multiplier", "3", 3),
        ("result_expires", timedelta(hours=1), 3600.0),
        ("result_expires", "60", 60.0),
        ("accept_content", "json, yaml", ("json", "yaml")),
        ("accept_content", ["json", "pickle"], ("json", "pickle")),
        ("imports", "proj.tasks", ("proj.tasks",)),
        ("task_time_limit", None, None),
        ("worker_concurrency", "auto", "auto"),
    ],
)
def test_conversion(name: str, given: object, wanted: object) -> None:
    assert SETTINGS[name].convert(given) == wanted


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("task_acks_late", "perhaps"),
        ("worker_prefetch_multiplier", "many"),
        ("worker_prefetch_multiplier", True),
        ("broker_transport_options", "confirm"),
        ("accept_content", 7),
    ],
)
def test_a_value_of_the_wrong_type_is_named(name: str, given: object) -> None:
    with pytest.raises(ValueError, match=name):
        SETTINGS[name].convert(given)
