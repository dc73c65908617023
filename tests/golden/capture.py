"""Captures the messages of a real Celery producer as the golden messages of the protocol's tests.

Run it with the Python of an environment that has the Celery to be captured, and nothing of turbo:

    python tests/golden/capture.py tests/golden/5.7

It stands in for the last step of publishing, where kombu hands over to py-amqp, and lets py-amqp encode the content
header. No broker is needed. One JSON file a case: the bytes in base64, and what Celery's own libraries decode from
them as text, so that the tests need no Celery.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import json
import pathlib
import struct
import sys
import uuid

import amqp.serialization
import celery
import celery.app.amqp
import kombu
import kombu.messaging
from amqp.basic_message import Message
from celery import chain, chord, group, signature
from celery.app.task import Context
from kombu.compression import decompress
from kombu.serialization import loads

NAMESPACE = uuid.UUID("5f0c3b1e-3c1f-4a55-9a0f-7c2b8f6d1e00")
UTC = datetime.UTC
captured: list[dict] = []


def publish(
    self,
    body,
    priority,
    content_type,
    content_encoding,
    headers,
    properties,
    routing_key,
    mandatory,
    immediate,
    exchange,
    declare,
    *_args,
    **_kwargs,
):
    """Replace kombu's last step: encode the message as kombu's AMQP transport would, and keep it."""
    message = Message(
        body,
        priority=priority,
        content_type=content_type,
        content_encoding=content_encoding,
        application_headers=headers,
        **(properties or {}),
    )
    if isinstance(body, str):
        body = body.encode(message.properties.setdefault("content_encoding", "utf-8"))
    body = bytes(body)
    encoded = message._serialize_properties()
    captured.append(
        {
            "header": struct.pack(">HHQ", 60, 0, len(body)) + encoded,
            "body": body,
            "exchange": exchange if isinstance(exchange, str) else exchange.name,
            "routing_key": routing_key,
        }
    )


def make_app(**conf) -> celery.Celery:
    app = celery.Celery("golden", broker="memory://", backend="cache+memory://", set_as_current=True)
    app.conf.update(accept_content=["json", "pickle", "yaml", "msgpack"], **conf)

    @app.task(name="proj.tasks.add", bind=True)
    def add(self, x=0, y=0):
        return x + y

    @app.task(name="proj.tasks.quiet", ignore_result=True)
    def quiet():
        return None

    app.finalize()
    return app


def task_id(case: str) -> str:
    return str(uuid.uuid5(NAMESPACE, case))


def retry_of(app: celery.Celery, case: str) -> None:
    """Send the message that ``self.retry`` sends in a running task."""
    task = app.tasks["proj.tasks.add"]
    context = Context(
        id=task_id(case),
        root_id=task_id("root"),
        args=[1, 2],
        kwargs={},
        retries=1,
        called_directly=False,
        is_eager=False,
        delivery_info={"exchange": "", "routing_key": "celery", "priority": 3},
        headers={"x-own": "kept", "x-death": [{"count": 1}]},
        timelimit=[60, 30.5],
        group=task_id("group"),
        group_index=2,
        callbacks=[signature("proj.tasks.add", (3,), app=app)],
        errbacks=None,
        chain=None,
        chord=None,
        reply_to=task_id("reply"),
        correlation_id=task_id(case),
        shadow="other.name",
        origin="gen1@elsewhere",
        ignore_result=True,
        replaced_task_nesting=1,
        stamped_headers=None,
        stamps={},
    )
    task.request_stack.push(context)
    try:
        task.retry(countdown=5, throw=False, max_retries=9, priority=3)
    finally:
        task.request_stack.pop()


def cases(app: celery.Celery) -> dict:
    add = app.tasks["proj.tasks.add"]
    quiet = app.tasks["proj.tasks.quiet"]
    when = datetime.datetime(2031, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
    tagged = [
        when,
        datetime.datetime(2031, 5, 6, 7, 8, 9),
        datetime.date(2031, 5, 6),
        datetime.time(7, 8, 9, 10),
        decimal.Decimal("1.10"),
        uuid.UUID(int=7),
        b"text",
        b"\xff\x00\xfe",
        {"nested": [{"at": when}]},
    ]

    def send(case, *args, **options):
        return lambda: add.apply_async(args, task_id=task_id(case), **options)

    def canvas(make):
        return lambda: make().apply_async()

    found = {
        "plain": send("plain", 1, 2),
        "no_arguments": send("no_arguments"),
        "by_name": lambda: app.send_task("proj.tasks.add", (1,), {"y": 2}, task_id=task_id("by_name")),
        "kwargs": lambda: add.apply_async((1,), {"y": [1, {"a": None}]}, task_id=task_id("kwargs")),
        "eta": send("eta", 1, eta=when),
        "eta_naive": send("eta_naive", 1, eta=datetime.datetime(2031, 5, 6, 7, 8, 9)),
        "eta_offset": send("eta_offset", 1, eta=when.astimezone(datetime.timezone(datetime.timedelta(hours=5)))),
        "countdown": send("countdown", 1, countdown=30),
        "expires": send("expires", 1, expires=3600),
        "expires_float": send("expires_float", 1, expires=90.5),
        "expires_datetime": send("expires_datetime", 1, expires=when),
        "eta_and_expires": send("eta_and_expires", 1, countdown=10, expires=600),
        "limits_int": send("limits_int", 1, time_limit=60, soft_time_limit=50),
        "limits_float": send("limits_float", 1, time_limit=2.5, soft_time_limit=0.5),
        "limit_soft_only": send("limit_soft_only", 1, soft_time_limit=1.5),
        "ignore_result": send("ignore_result", 1, ignore_result=True),
        "ignore_result_task": lambda: quiet.apply_async(task_id=task_id("ignore_result_task")),
        "headers": send(
            "headers",
            1,
            headers={
                "x-text": "t",
                "x-int": 7,
                "x-long": 2**40,
                "x-negative": -(2**40),
                "x-float": 0.25,
                "x-bool": True,
                "x-none": None,
                "x-list": [1, "a", None, 1.5],
                "x-table": {"a": {"b": [True]}},
                "x-bytes": b"\xff\xfe",
                "x-time": when,
                "x-decimal": decimal.Decimal("12.345"),
                "x-ünïcode": "☃",
            },
        ),
        "shadow": send("shadow", 1, shadow="nicer.name"),
        "reprs": send("reprs", 1, argsrepr="(secret)", kwargsrepr="{secret}"),
        "long_repr": send("long_repr", "x" * 1500, list(range(400))),
        "spoof": send("spoof", "\x03etaV\x07expiresV\ttimelimitA\0\0\0\x02VV", countdown=60),
        "priority": send("priority", 1, priority=9),
        "transient": send("transient", 1, delivery_mode=1),
        "queue": send("queue", 1, queue="other"),
        "tagged": lambda: add.apply_async((tagged,), {"y": when}, task_id=task_id("tagged")),
        "big_ints": send("big_ints", 2**63 - 1, -(2**63)),
        "huge_ints": send("huge_ints", 2**64, [10**40, -(2**63) - 1]),
        "nan": send("nan", float("nan"), [float("inf"), -float("inf")]),
        "unicode": send("unicode", "ünïcødé 漢字 😀", {"ключ": "\u0000\u001f\u2028"}),
        "surrogate": send("surrogate", "\ud800"),
        "floats": send("floats", 0.1, [1e300, -0.0, 1e-7, 123456789.123456789]),
        "gzip": send("gzip", "z" * 2000, compression="gzip"),
        "zlib": send("zlib", "z" * 2000, compression="zlib"),
        "bzip2": send("bzip2", "z" * 2000, compression="bzip2"),
        "lzma": send("lzma", "z" * 2000, compression="lzma"),
        "yaml": send("yaml", 1, {"a": [1, 2.5, None, "text"]}, serializer="yaml"),
        "msgpack": send("msgpack", 1, {"a": [1, 2.5, None, "text", b"\xff"]}, serializer="msgpack"),
        "pickle": lambda: add.apply_async(
            ({1, 2},), {"y": ((3, 4), when, 2j)}, task_id=task_id("pickle"), serializer="pickle"
        ),
        "link": send("link", 1, link=add.s(5)),
        "links": send("links", 1, link=[add.s(5), add.si(6, 7)]),
        "link_error": send("link_error", 1, link_error=add.s()),
        "chain": canvas(lambda: chain(add.s(1, 2), add.s(3), add.si(4, 5))),
        "chain_group": canvas(lambda: chain(add.s(1, 2), group(add.s(3), add.s(4)))),
        "group": canvas(lambda: group(add.s(1, 2), add.s(3, 4))),
        "chord": canvas(lambda: chord([add.s(1, 2), add.s(3, 4)], add.s())),
        "stamps": lambda: _stamped(add.s(1, 2)).apply_async(task_id=task_id("stamps")),
        "retry": lambda: retry_of(app, "retry"),
    }
    for name in ("zstd", "brotli"):
        if name in _compressions():
            found[name] = send(name, "z" * 2000, compression=name)
    return found


def _stamped(sig):
    sig.stamp(monitoring="abc", level=[1, 2])
    return sig


def _compressions() -> set:
    return set(kombu.compression._aliases)


def cases_v1(app: celery.Celery) -> dict:
    add = app.tasks["proj.tasks.add"]
    return {
        "proto1": lambda: add.apply_async((1,), {"y": 3}, task_id=task_id("proto1")),
        "proto1_eta": lambda: add.apply_async(
            (1, 2), task_id=task_id("proto1_eta"), countdown=30, expires=600, time_limit=9, soft_time_limit=4.5
        ),
        "proto1_link": lambda: add.apply_async((1, 2), task_id=task_id("proto1_link"), link=add.s(4)),
        "proto1_chord": lambda: chord([add.s(1, 2)], add.s()).apply_async(),
    }


def described(message: dict) -> dict:
    """Return what py-amqp and kombu decode from the captured bytes."""
    props, _ = amqp.serialization.decode_properties_basic(message["header"], 12)
    headers = props.pop("application_headers", {})
    body = message["body"]
    packing = headers.get("compression")
    if packing:
        body = decompress(body, packing)
    content = loads(body, props["content_type"], props["content_encoding"], force=True)
    return {
        "headers": {key: repr(value) for key, value in headers.items()},
        "properties": props,
        "content": repr(content),
    }


def main(folder: pathlib.Path) -> None:
    kombu.messaging.Producer._publish = publish
    # The host's name and the process's number are nobody's business.
    celery.app.amqp.anon_nodename = lambda *_: "gen4242@producer"
    folder.mkdir(parents=True, exist_ok=True)
    runs = [cases(make_app())]
    runs.append(cases_v1(make_app(task_protocol=1)))
    for run in runs:
        for name, call in run.items():
            captured.clear()
            call()
            if not captured:
                raise SystemExit(f"case {name} published nothing")
            document = {
                "celery": celery.__version__,
                "kombu": kombu.__version__,
                "amqp": amqp.__version__,
                "messages": [
                    {
                        "exchange": one["exchange"],
                        "routing_key": one["routing_key"],
                        "header": base64.b64encode(one["header"]).decode(),
                        "body": base64.b64encode(one["body"]).decode(),
                        **described(one),
                    }
                    for one in captured
                ],
            }
            (folder / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
