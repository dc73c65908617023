"""The same app with Celery's and turbo's classes, and the messages that each sends for a canvas, decoded."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import celery
import celery.signals

import turbo
from tests.unit.app.recording import recording

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
#: What says which process and which API sent a message.
_OF_SENDER = ("origin",)


def _add(x: int, y: int = 0) -> int:
    return x + y


def _total(numbers: list[int]) -> int:
    return sum(numbers)


def _note(*_: Any) -> None:
    """Called as a callback."""


class Side:
    """One API: its module, an app and its tasks."""

    def __init__(self, module: ModuleType, backend: str, **settings: Any) -> None:
        self.module = module
        self.app = module.Celery("canvas", broker="memory://" if module is celery else "amqp://nowhere",
                                 backend=backend, set_as_current=False, **settings)  # fmt: skip
        self.add = self.app.task(name="canvas.add", shared=False)(_add)
        self.total = self.app.task(name="canvas.total", shared=False)(_total)
        self.note = self.app.task(name="canvas.note", shared=False)(_note)
        self.chain, self.group, self.chord = module.chain, module.group, module.chord
        self.chunks, self.xmap, self.xstarmap = module.chunks, module.xmap, module.xstarmap
        self.signature = module.signature

    @contextmanager
    def published(self) -> Iterator[list[dict[str, Any]]]:
        """Collect the messages that the block publishes; none is sent."""
        messages: list[dict[str, Any]] = []
        if self.module is turbo:
            with recording() as recorder:
                yield messages
            messages.extend(_message(sent.headers, json.loads(sent.body)) for sent in recorder.sent)
            return

        def keep(sender: str, headers: dict[str, Any], body: Any, **_: Any) -> None:
            messages.append(_message(headers, json.loads(celery_json(body))))

        celery.signals.before_task_publish.connect(keep)
        try:
            yield messages
        finally:
            celery.signals.before_task_publish.disconnect(keep)


def celery_json(value: Any) -> str:
    """Encode a value as Celery's producers do."""
    from kombu.serialization import dumps

    text = dumps(value, "json")[2]
    return text if isinstance(text, str) else text.decode()


def _message(headers: dict[str, Any], body: Any) -> dict[str, Any]:
    return {"headers": {k: v for k, v in headers.items() if k not in _OF_SENDER}, "body": body}


def _without_none(value: Any) -> Any:
    """Remove options that are None, since they have no effect."""
    if isinstance(value, list):
        return [_without_none(each) for each in value]
    if not isinstance(value, dict):
        return value
    options = value.get("options")
    if isinstance(options, dict):
        value = {**value, "options": {name: each for name, each in options.items() if each is not None}}
    return {name: _without_none(each) for name, each in value.items()}


def comparable(value: Any) -> Any:
    """Replace ids by their order of appearance, so that two sides can be compared."""
    names: dict[str, str] = {}

    def name(match: re.Match[str]) -> str:
        return names.setdefault(match[0], f"id-{len(names)}")

    return json.loads(_ID.sub(name, json.dumps(_without_none(value), sort_keys=True)))


Build = Callable[[Side], Any]


def sent_by(side: Side, build: Build) -> list[dict[str, Any]]:
    """Return the messages that sending a canvas publishes, in comparable form."""
    with side.published() as messages:
        build(side).apply_async()
    found = comparable(messages)
    assert isinstance(found, list)
    return found
