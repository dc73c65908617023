"""What remote control reads of the settings."""

from __future__ import annotations

from typing import Any

import pytest

from turbo.app.conf.conf import Settings
from turbo.control.options import ControlOptions, control_options
from turbo.policy.worker_options import WorkerOptions


def options(**settings: Any) -> ControlOptions:
    return control_options(Settings(settings), WorkerOptions("one@here", 1))


@pytest.mark.row("CF27")
def test_the_settings_of_its_queue() -> None:
    mailbox = options(control_exchange="mine", control_queue_ttl=5, control_queue_expires=0).mailbox
    assert mailbox is not None
    assert (mailbox.name, mailbox.queue_arguments) == ("one@here.mine.pidbox", {"x-message-ttl": 5_000})
    shared = options(control_queue_exclusive=False)
    assert shared.mailbox is not None and shared.mailbox.exclusive, "RabbitMQ may refuse one that is not"
    assert "control_queue_exclusive=False is not followed" in shared.unfollowed
    found = options(control_queue_durable=True, control_queue_exclusive=False)
    durable = found.mailbox
    assert durable is not None and found.unfollowed == options().unfollowed == ""
    assert (durable.exclusive, durable.durable, durable.auto_delete) == (False, True, False)


@pytest.mark.row("CF19", "CF26")
def test_what_else_is_set() -> None:
    found = options(
        worker_enable_remote_control=False, task_serializer="yaml", event_exchange="ev", event_serializer="yaml",
    )  # fmt: skip
    assert found.mailbox is None
    assert (found.serializer, found.event_exchange.name, found.event_serializer) == ("yaml", "ev", "yaml")


@pytest.mark.row("TM14")
def test_a_worker_mingles_unless_it_is_told_not_to() -> None:
    found = options(control_exchange="mine").replies
    assert found is not None and options().replies not in (None, found), "each worker has a key of its own"
    assert (found.exchange.name, found.exchange.type, found.exchange.durable) == ("reply.mine.pidbox", "direct", False)
    assert options(worker_enable_remote_control=False).replies is None
    assert control_options(Settings(), WorkerOptions("one@here", 1, mingle=False)).replies is None
