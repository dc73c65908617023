"""Where the embedded broker may listen instead of the one that an app names."""

from __future__ import annotations

from typing import Any

import pytest

from turbo.app.base import Turbo
from turbo.cli.worker_broker import own_port


@pytest.mark.parametrize(
    ("settings", "port"),
    [
        ({}, 5672),
        ({"broker_url": "amqp://localhost//"}, 5672),
        ({"broker_url": "amqp://127.0.0.1:5673/site"}, 5673),
        ({"broker_url": "amqp://guest:guest@localhost:5673//"}, 5673),
        ({"broker_url": "amqp://shop:secret@localhost//"}, 0),
        ({"broker_url": "amqp://rabbit.example.org//"}, 0),
        ({"broker_url": "amqps://localhost//"}, 0),
        ({"broker_url": "amqp://localhost//", "broker_use_ssl": True}, 0),
        ({"broker_url": "redis://localhost"}, 0),
        ({"broker_url": "amqp://localhost//;amqp://localhost:5673//"}, 0),
        ({"broker_read_url": "amqp://localhost//", "broker_write_url": "amqp://localhost:5673//"}, 0),
    ],
)
def test_the_port_at_which_clients_look(settings: dict[str, Any], port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"):
        monkeypatch.delenv(variable, raising=False)
    app = Turbo("shop", set_as_current=False)
    app.conf.update(settings)
    assert own_port(app.conf) == port
