"""What producer and worker share: settings, the values that tasks return, the exceptions that they raise.

Imported by real Celery of two versions and by turbo, so it imports neither.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

ACCEPTED = ["json", "yaml", "msgpack", "pickle"]
SETTINGS: dict[str, Any] = {
    "accept_content": ACCEPTED,
    "result_accept_content": ["json"],
    "task_default_queue": "celery",
    "task_queues": {
        "celery": {"exchange": "celery", "routing_key": "celery"},
        "prio": {"exchange": "prio", "routing_key": "prio", "queue_arguments": {"x-max-priority": 10}},
        "topical": {"exchange": "topics", "exchange_type": "topic", "routing_key": "orders.#"},
    },
    "worker_enable_remote_control": False,
    "worker_send_task_events": False,
    "broker_connection_retry_on_startup": True,
}

VALUES: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "true": lambda: True,
    "int": lambda: -7,
    "int64": lambda: 2**63,
    "bigint": lambda: 2**200,
    "float": lambda: 0.1,
    "whole_float": lambda: 1e22,
    "nan": lambda: [float("nan"), float("inf"), float("-inf")],
    "text": lambda: 'ä€😀\n\x00\x1b"\\\u2028',
    "surrogate": lambda: "\ud800",
    "nested": lambda: {"a": [1, {"b": [None, [], {}]}]},
    "tuple": lambda: (1, (2, 3)),
    "integer_keys": lambda: {1: "a", 2.5: "b", None: "c", False: "d"},
    "bytes": lambda: b"text",
    "raw_bytes": lambda: b"\xff\x00",
    "datetime": lambda: datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    "naive_datetime": lambda: datetime(2030, 1, 2, 3, 4, 5),
    "date": lambda: date(2030, 1, 2),
    "time": lambda: time(3, 4, 5),
    "decimal": lambda: Decimal("1.10"),
    "uuid": lambda: uuid.UUID(int=5),
    "long": lambda: "x" * 300_000,
}


class CustomError(Exception):
    """A user-defined exception."""


class PickyError(Exception):
    """An exception whose constructor has other parameters than ``args``, so it cannot be unpickled."""

    def __init__(self, code: int, *, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code


class Outer:
    class NestedError(ValueError):
        """An exception class inside a class, so that its qualified name has a dot."""


class Opaque:
    """A class that no serializer can encode."""

    def __repr__(self) -> str:
        return "<opaque>"


def _chained() -> BaseException:
    try:
        raise KeyError("inner")
    except KeyError as inner:
        outer = ValueError("outer")
        outer.__cause__ = inner
        return outer


ERRORS: dict[str, Callable[[], BaseException]] = {
    "value": lambda: ValueError("the text", 5),
    "key": lambda: KeyError("missing"),
    "no_arguments": lambda: RuntimeError(),
    "os": lambda: FileNotFoundError(2, "No such file", "/nowhere"),
    "unicode": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    "custom": lambda: CustomError("own", {"a": [1]}),
    "picky": lambda: PickyError(7, detail="why"),
    "nested": lambda: Outer.NestedError("deep"),
    "opaque_argument": lambda: CustomError("with", Opaque()),
    "bytes_argument": lambda: CustomError(b"\xff"),
    "nan_argument": lambda: CustomError(float("inf")),
    "chained": _chained,
    "group": lambda: ExceptionGroup("several", [ValueError("one"), KeyError("two")]),
    "multiline": lambda: ValueError("line one\nline two ä \x1b[31m"),
}
