"""Names that are like a setting's are found; a program's own names are left alone."""

from __future__ import annotations

import pytest

from turbo.app.conf.misspelt import misspelt


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("brokr", "broker"),
        ("task_ack_late", "task_acks_late"),
        ("worker_prefetch_multiplyer", "worker_prefetch_multiplier"),
    ],
)
def test_a_name_like_a_settings(name: str, near: str) -> None:
    assert list(misspelt([name])) == [(name, near)]


def test_other_names_are_the_programs_own() -> None:
    assert not list(misspelt(["task_acks_late", "CELERY_ACKS_LATE", "my_region", "MY_BROKR", "broker", "sentry_dsn"]))
