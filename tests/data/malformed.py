"""Malformed messages that a worker must survive: the encoded bytes, and how each must be settled.

Each case is published raw: the payload of a content-header frame and a body. ``settlement`` is what a worker that
accepts JSON, YAML, msgpack and text does with it: ``reject`` (without requeue) before any task's body runs, or ``run``
the task ``TASK`` with the arguments that the case holds. Bodies are made when asked for; some are large.

Nothing here imports turbo: bytes are put together by hand, so that the codec under test cannot hide its mistakes.
"""

from __future__ import annotations

import bz2
import json
import pickle
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

#: Name under which the task that the cases call must be registered. It takes any arguments.
TASK = "malformed.any"

JSON = "application/json"
PLAIN_BODY = b'[[1], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'


@dataclass(frozen=True, slots=True)
class Case:
    """One message. ``accept_all``: it needs a worker that accepts pickle, and may kill a child."""

    name: str
    header: Callable[[], bytes]
    body: Callable[[], bytes]
    settlement: Literal["reject", "run"]
    accept_all: bool = False


def short(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return bytes((len(raw),)) + raw


def item(value: Any) -> bytes:
    """Encode one table value with its type; bytes are used unchanged and include the type."""
    if isinstance(value, bytes):
        return value
    if value is None:
        return b"V"
    if isinstance(value, bool):
        return b"t" + bytes((value,))
    if isinstance(value, int):
        return b"I" + struct.pack(">i", value)
    if isinstance(value, float):
        return b"d" + struct.pack(">d", value)
    if isinstance(value, str):
        raw = value.encode()
        return b"S" + struct.pack(">I", len(raw)) + raw
    if isinstance(value, list):
        inner = b"".join(item(one) for one in value)
        return b"A" + struct.pack(">I", len(inner)) + inner
    inner = entries(value)
    return b"F" + struct.pack(">I", len(inner)) + inner


def entries(table: dict[Any, Any]) -> bytes:
    return b"".join(short(key) + item(value) for key, value in table.items())


def raw_text(raw: bytes) -> bytes:
    return b"S" + struct.pack(">I", len(raw)) + raw


def header(
    table: dict[Any, Any] | bytes | None,
    content_type: str | bytes | None = JSON,
    encoding: str | bytes | None = "utf-8",
    size: int | None = None,
    priority: int = 0,
    correlation_id: str | bytes = "corr",
    reply_to: str | bytes = "",
    tail: bytes = b"",
    tail_flags: int = 0,
    body: bytes = b"",
) -> bytes:
    """Encode a content-header payload. A ``table`` of bytes is the table's content, used unchanged."""
    flags = 0x1E00 | tail_flags
    parts = []
    if content_type is not None:
        flags |= 0x8000
        parts.append(short(content_type))
    if encoding is not None:
        flags |= 0x4000
        parts.append(short(encoding))
    if table is not None:
        flags |= 0x2000
        inner = table if isinstance(table, bytes) else entries(table)
        parts.append(struct.pack(">I", len(inner)) + inner)
    parts += [b"\x02", bytes((priority,)), short(correlation_id), short(reply_to), tail]
    return struct.pack(">HHQH", 60, 0, len(body) if size is None else size, flags) + b"".join(parts)


def headers(**changed: Any) -> dict[Any, Any]:
    """Return Celery's headers with changes; ``...`` as a value removes a header."""
    table: dict[Any, Any] = {
        "lang": "py",
        "task": TASK,
        "id": "malformed",
        "shadow": None,
        "eta": None,
        "expires": None,
        "group": None,
        "group_index": None,
        "retries": 0,
        "timelimit": [None, None],
        "root_id": "malformed",
        "parent_id": None,
        "argsrepr": "(1,)",
        "kwargsrepr": "{}",
        "origin": "gen1@producer",
        "ignore_result": False,
        "replaced_task_nesting": 0,
        "stamped_headers": None,
        "stamps": {},
    }
    table.update(changed)
    return {key: value for key, value in table.items() if value is not ...}


CASES: list[Case] = []


def add(
    name: str,
    settlement: Literal["reject", "run"],
    table: Any = None,
    body: bytes | Callable[[], bytes] = PLAIN_BODY,
    accept_all: bool = False,
    **options: Any,
) -> None:
    """Register one case. Table and body may be functions if they are large."""

    def make_body() -> bytes:
        return body if isinstance(body, bytes) else body()

    def make_header() -> bytes:
        inside = table() if callable(table) else headers() if table is None else table
        return header(None if inside == "none" else inside, body=make_body(), **options)

    CASES.append(Case(name, make_header, make_body, settlement, accept_all))


def nested(depth: int, kind: bytes) -> bytes:
    """Encode nested tables or arrays as one table value."""
    inner = b""
    for _ in range(depth):
        inner = kind + struct.pack(">I", len(inner)) + inner
        if kind == b"F":
            inner = b"\x01a" + inner
    return inner[2:] if kind == b"F" else inner


class Exits:
    """An object whose unpickling ends the process."""

    def __reduce__(self) -> Any:
        return __import__("os")._exit, (9,)


class Raises:
    """A pickle that raises an unusual exception."""

    def __reduce__(self) -> Any:
        return exec, ("raise KeyboardInterrupt",)


# -- the ordinary ones, so that the corpus can also fail by refusing too much
add("plain", "run")
add("only_task_and_id", "run", {"task": TASK, "id": "malformed"})
add("protocol_1", "run", {}, json.dumps({"task": TASK, "id": "malformed", "args": [1], "kwargs": {}}).encode())
add("protocol_1_without_headers", "run", "none", json.dumps({"task": TASK, "id": "malformed"}).encode())

# -- header tables
add("timestamp_2_64", "run", headers(**{"x-when": b"T" + b"\xff" * 8}))
add("timestamp_as_eta", "reject", headers(eta=b"T" + b"\xff" * 8))
add("unknown_field_type", "reject", headers(**{"x-odd": b"Z\0\0\0\0"}))
add("tables_2000_deep", "reject", lambda: headers(**{"x-deep": nested(2000, b"F")}))
add("arrays_2000_deep", "reject", lambda: headers(**{"x-deep": nested(2000, b"A")}))
add("tables_60_deep", "run", lambda: headers(**{"x-deep": nested(60, b"F")}))
# RabbitMQ takes a content header only if it fits one frame, 128 KiB unless configured.
add("table_of_100_kb", "run", lambda: headers(**{"x-big": "y" * 100_000}))
add("ten_thousand_keys", "run", lambda: headers(**{f"x{number}": None for number in range(10_000)}))
add("key_not_utf8", "run", {**headers(), b"x-\xff\xfe": "v"})
add("value_not_utf8", "run", headers(**{"x-raw": raw_text(b"\xff\xfe\xfd")}))
add("empty_key", "run", headers(**{"": "v"}))
add("duplicate_task", "run", entries(headers(task="malformed.other")) + entries({"task": TASK}))
add("duplicate_task_broken", "reject", entries(headers()) + entries({"task": None}))
add("infinite_header", "run", headers(**{"x-inf": float("inf"), "x-nan": float("nan")}))
add("decimal_header", "run", headers(**{"x-dec": b"D\xff" + b"\x7f\xff\xff\xff"}))
add("short_integer_header", "run", headers(**{"x-s": b"s\xff\xff", "x-u": b"u\xff\xff", "x-b": b"b\xff"}))

# -- fields missing and of wrong types
for _field in ("task", "id"):
    add(f"{_field}_missing", "reject", headers(**{_field: ...}))
    add(f"{_field}_null", "reject", headers(**{_field: None}))
    add(f"{_field}_empty", "reject", headers(**{_field: ""}))
    add(f"{_field}_table", "reject", headers(**{_field: {}}))
    add(f"{_field}_number", "reject", headers(**{_field: 5}))
    add(f"{_field}_not_utf8", "reject", headers(**{_field: raw_text(b"\xff\xfe")}))
add("task_unknown_with_escapes", "run", headers(argsrepr="\n[ERROR] forged\x1b[2J", origin="\r\n\x00"))
for _name, _changed in {
    "retries_text": {"retries": "x"},
    "retries_negative": {"retries": -1},
    "retries_float": {"retries": 1.5},
    "timelimit_negative": {"timelimit": [-1, 1e308]},
    "timelimit_nan": {"timelimit": [float("nan"), None]},
    "timelimit_infinite": {"timelimit": [None, float("inf")]},
    "timelimit_one": {"timelimit": [1]},
    "timelimit_text": {"timelimit": "5"},
    "eta_digits": {"eta": "9999999"},
    "eta_number": {"eta": 5},
    "eta_not_utf8": {"eta": raw_text(b"\xff")},
    "eta_before_year_1": {"eta": "0001-01-01T00:00:00+14:00"},
    "eta_huge": {"eta": "2" * 60_000},
    "expires_nan": {"expires": float("nan")},
    "expires_text": {"expires": "never"},
    "expires_after_year_9999": {"expires": "9999-12-31T23:59:59-14:00"},
    "group_number": {"group": 5},
    "group_index_text": {"group_index": "1"},
    "root_id_table": {"root_id": {}},
    "parent_id_list": {"parent_id": [1]},
    "ignore_result_text": {"ignore_result": "yes"},
    "nesting_negative": {"replaced_task_nesting": -1},
    "stamps_list": {"stamps": [1]},
    "stamped_headers_numbers": {"stamped_headers": [1, 2]},
    "compression_unknown": {"compression": "application/x-nothing"},
    "compression_number": {"compression": 5},
    "compression_of_what_is_plain": {"compression": "application/x-gzip"},
}.items():
    add(_name, "reject", headers(**_changed))
for _name, _changed in {
    "shadow_table": {"shadow": {"a": 1}},
    "argsrepr_number": {"argsrepr": 5},
    "argsrepr_not_utf8": {"argsrepr": raw_text(b"\xff")},
    "origin_missing": {"origin": ...},
    "lang_number": {"lang": 5},
    "retries_null": {"retries": None},
    "timelimit_zero": {"timelimit": [0, 0]},
    "argsrepr_of_60_kb": {"argsrepr": "z" * 60_000},
    "root_id_null": {"root_id": None},
    "id_of_60_kb": {"id": "i" * 60_000},
    "argsrepr_that_imitates_keys": {"argsrepr": "\x03etaV\x07expiresV\ttimelimitA\0\0\0\x02VV"},
}.items():
    add(_name, "run", headers(**_changed))

# -- properties
add("no_content_type", "reject", content_type=None)
add("content_type_unknown", "reject", content_type="application/x-own")
add("content_type_not_utf8", "reject", content_type=b"\xff\xfe")
add("content_encoding_latin_1", "run", encoding="latin-1")
add("content_encoding_unknown", "run", encoding="no-such-thing")
add("content_encoding_not_utf8", "run", encoding=b"\xff")
add("no_content_encoding", "run", encoding=None)
add("priority_255", "run", priority=255)
add("reply_to_255_bytes", "run", reply_to="r" * 255)
add("reply_to_not_utf8", "reject", reply_to=b"\xff\xfe")
add("correlation_id_not_utf8", "reject", correlation_id=b"\xff")
add("timestamp_property_2_64", "run", tail=b"\xff" * 8, tail_flags=0x0040)
add("every_property", "run", tail=short("m") + b"\0" * 8 + short("t") + short("a"), tail_flags=0x00E8)

# -- bodies
add("empty_body", "reject", body=b"")
add("json_number", "reject", body=b"5")
add("json_text", "reject", body=b'"abc"')
add("json_empty_list", "reject", body=b"[]")
add("json_two_parts", "reject", body=b"[[], {}]")
add("json_four_parts", "reject", body=b"[[], {}, {}, {}]")
add("json_broken", "reject", body=b"[[1], {}, {")
add("json_not_utf8", "reject", body=b'[["\xff"], {}, {}]')
add("json_utf16", "reject", body=PLAIN_BODY.decode().encode("utf-16"))
add("json_bom", "reject", body=b"\xef\xbb\xbf" + PLAIN_BODY)
add("json_depth_100000", "reject", body=lambda: b"[" * 100_000 + b"]" * 100_000)
add("json_depth_100000_tagged", "reject", body=lambda: b'{"__type__":"x","__value__":' * 100_000)
add("json_duplicate_keys", "run", body=b'[[1], {"a": 1, "a": 2}, {"chain": 5, "chain": null}]')
add("json_nan", "run", body=b"[[NaN, Infinity], {}, {}]")
add("json_number_of_5000_digits", "reject", body=b"[[" + b"1" * 5000 + b"], {}, {}]")
add("json_number_of_100_digits", "run", body=b"[[" + b"1" * 100 + b"], {}, {}]")
add("json_surrogate", "run", body=b'[["\\ud800"], {}, {}]')
add("json_tag_unknown", "reject", body=b'[[{"__type__": "set", "__value__": [1]}], {}, {}]')
add("json_tag_wrong_value", "reject", body=b'[[{"__type__": "uuid", "__value__": {"bytes": "x"}}], {}, {}]')
add("json_args_mapping", "reject", body=b"[{}, {}, {}]")
add("json_kwargs_list", "reject", body=b"[[], [], {}]")
add("json_embed_null", "run", body=b"[[1], {}, null]")
add("json_embed_list", "reject", body=b"[[], {}, [1]]")
add("json_callbacks_number", "reject", body=b'[[], {}, {"callbacks": 5}]')
add("json_callbacks_nameless", "reject", body=b'[[], {}, {"callbacks": [{}]}]')
add("json_chord_text", "reject", body=b'[[], {}, {"chord": "x"}]')
add("json_body_of_8_mb", "run", body=lambda: b'[["' + b"x" * 8_000_000 + b'"], {}, {}]')
add("json_a_million_lists", "run", body=lambda: b"[[" + b",".join([b"[]"] * 1_000_000) + b"], {}, {}]")
add("protocol_1_id_surrogate", "reject", "none", b'{"task": "malformed.any", "id": "\\ud800"}')
add("protocol_1_args_text", "reject", "none", b'{"task": "malformed.any", "id": "i", "args": "abc"}')
add("protocol_1_without_id", "reject", "none", b'{"task": "malformed.any"}')
add("protocol_1_eta_number", "reject", "none", b'{"task": "malformed.any", "id": "i", "eta": 5}')

# -- other contents
add(
    "yaml_aliases",
    "reject",
    content_type="application/x-yaml",
    body=b"a: &a [x,x,x,x,x,x,x,x,x]\n"
    + b"".join(b"%c: &%c [%s]\n" % (98 + n, 98 + n, b",".join([b"*%c" % (97 + n)] * 9)) for n in range(8)),
)
add("yaml_object", "reject", content_type="application/x-yaml", body=b"!!python/object/apply:os.system [true]")
add("yaml_depth", "reject", content_type="application/x-yaml", body=b"[" * 500)
add("yaml_broken", "reject", content_type="application/x-yaml", body=b"{")
add("msgpack_depth", "reject", content_type="application/x-msgpack", body=b"\x91" * 100_000)
add("msgpack_promises_4_gb", "reject", content_type="application/x-msgpack", body=b"\xdd\xff\xff\xff\xff")
add("msgpack_broken", "reject", content_type="application/x-msgpack", body=b"\xc1")
add("text", "reject", content_type="text/plain", body=b"just text")
add("raw_bytes", "reject", content_type="application/data", encoding="binary", body=b"\x00\xff")
add(
    "pickle_not_accepted",
    "reject",
    content_type="application/x-python-serialize",
    encoding="binary",
    body=pickle.dumps(([1], {}, {})),
)

# -- bombs
add(
    "gzip_bomb", "reject", headers(compression="application/x-gzip"), lambda: zlib.compress(bytes(320 * 1024 * 1024), 1)
)
add("bzip2_bomb", "reject", headers(compression="application/x-bz2"), lambda: bz2.compress(bytes(64 * 1024 * 1024)) * 8)
add("gzip_cut_short", "reject", headers(compression="application/x-gzip"), zlib.compress(PLAIN_BODY)[:-4])
add("gzip_alias", "run", headers(compression="gzip"), zlib.compress(PLAIN_BODY))

# -- code: these need pickle to be accepted, and cost a child at most
add(
    "pickle_exits",
    "reject",
    content_type="application/x-python-serialize",
    encoding="binary",
    body=pickle.dumps(Exits()),
    accept_all=True,
)
add(
    "pickle_raises",
    "reject",
    content_type="application/x-python-serialize",
    encoding="binary",
    body=pickle.dumps(Raises()),
    accept_all=True,
)
add(
    "pickle_broken",
    "reject",
    content_type="application/x-python-serialize",
    encoding="binary",
    body=b"\x80\x05.",
    accept_all=True,
)
