"""The codecs alone: microseconds a call, for what runs once a message or once a result.

``python -m bench.protocol`` prints each step's best of several rounds beside its budget. The message is a captured
one of Celery 5.7 (tests/golden); no broker and no process is involved, so the figures compare between commits of one
machine, not between machines.
"""

from __future__ import annotations

import base64
import json
import sys
import timeit
from pathlib import Path
from typing import TYPE_CHECKING

from turbo.protocol import content, faults, result_meta, tagged_json
from turbo.protocol.deliver import parse_deliver
from turbo.protocol.message import build, parse
from turbo.protocol.peek import peek
from turbo.protocol.properties import decode_header, encode_header, result_header_encoder

if TYPE_CHECKING:
    from collections.abc import Callable

GOLDENS = Path(__file__).resolve().parent.parent / "tests" / "golden" / "5.7"
BODY = b'[[], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'
DELIVER = b"\x05ctag1" + bytes(7) + b"\x05\x00" + b"\x00\x06celery"


def golden(name: str) -> bytes:
    """The content header of a captured message."""
    found = json.loads((GOLDENS / f"{name}.json").read_text())["messages"][0]
    return base64.b64decode(found["header"])


def steps() -> dict[str, tuple[float, Callable[[], object]]]:
    """Each step with its budget in microseconds."""
    plain, member, eta = golden("plain"), golden("group"), golden("eta")
    props, size = decode_header(plain)
    task_id = props.correlation_id or ""
    body = tagged_json.loads(BODY)
    accept = content.accept_set(None)
    encode_reply = result_header_encoder("application/json", "utf-8", 1)
    done = "2031-01-02T03:04:05.678901+00:00"
    error = ValueError("a message", 1)
    meta = result_meta.build_meta(task_id, "SUCCESS", None, None, date_done=done)
    return {
        "peek": (0.6, lambda: peek(plain)),
        "peek, member of a group": (1.0, lambda: peek(member)),
        "peek, an ETA": (4.0, lambda: peek(eta)),
        "parse_deliver": (1.0, lambda: parse_deliver(DELIVER)),
        "decode_header": (5.0, lambda: decode_header(plain)),
        "content.decode": (1.5, lambda: content.decode(BODY, "application/json", "utf-8", accept)),
        "parse": (4.0, lambda: parse(props, body)),
        "encode_meta, SUCCESS of None": (2.0, lambda: result_meta.encode_meta(meta)),
        "to_wire": (3.0, lambda: faults.to_wire(error)),
        "header of an rpc result": (2.0, lambda: encode_reply(task_id, 150)),
        "build": (6.0, lambda: build(task_id, "t", (1, 2), {}, origin="gen1@host", reply_to=task_id)),
        "encode_header": (10.0, lambda: encode_header(props, size)),
    }


def measure(call: Callable[[], object], seconds: float = 0.1, rounds: int = 5) -> float:
    """Best of ``rounds``, in microseconds a call."""
    timer = timeit.Timer(call)
    number, took = timer.autorange()
    number = max(1, int(number * seconds / took))
    return min(timer.repeat(rounds, number)) / number * 1e6


def main() -> int:
    """Print every step; 1 when one is over twice its budget, which no other load on the machine excuses."""
    over = 0
    for name, (budget, call) in steps().items():
        taken = measure(call)
        over += taken > 2 * budget
        print(f"{name:30} {taken:7.2f} us   (budget {budget:.1f})")
    return int(over > 0)


if __name__ == "__main__":
    sys.exit(main())
