"""A turbo or Celery app, by KIND, with a custom serializer; SERIALIZER names the one that it uses."""

from __future__ import annotations

import os
import pickle
import threading
from typing import Any

from kombu.serialization import register

if os.environ.get("KIND") == "celery":
    from celery import Celery
    from celery.worker.control import inspect_command
else:
    from turbo import Celery
    from turbo.worker.control import inspect_command


def _signed(value: Any) -> bytes:
    return b"X" + pickle.dumps(value)


def _read(body: Any) -> Any:
    return pickle.loads(bytes(body)[1:])


def _fail(_value: Any) -> bytes:
    raise RuntimeError("this serializer encodes nothing")


register("signed", _signed, _read, content_type="application/x-signed", content_encoding="binary")
register("broken", _fail, _read, content_type="application/x-broken", content_encoding="binary")

app = Celery("signed", broker=os.environ.get("CONTROLLED_BROKER"))
app.conf.task_serializer = os.environ.get("SERIALIZER", "signed")
app.conf.accept_content = ["json", "signed"]


@inspect_command()
def unencodable(_state: Any) -> Any:
    """Reply with an object that no serializer can encode."""
    return {"ok": threading.Lock()}
