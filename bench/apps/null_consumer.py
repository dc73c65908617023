"""The consumer that does nothing: split frames, count messages, acknowledge in bulk. The physical limit.

One process, a blocking socket, no decoding of headers or bodies. Each message is marked as a task would mark
itself, one write for all messages of a chunk. Run as ``python -m bench.apps.null_consumer``.
"""

from __future__ import annotations

import os
import signal
import struct
import sys
import time
from urllib.parse import urlsplit

from bench.amqp import Wire

_PREFIX = struct.Struct(">BHI")
_ACK = struct.Struct(">BHIHHQBB")
_DELIVER = b"\x00\x3c\x00\x3c"
_ONE = ord("1")


def main() -> None:
    """Consume ``BENCH_QUEUE`` with ``BENCH_PREFETCH`` until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    port = urlsplit(os.environ["BENCH_BROKER"]).port
    assert port is not None
    marks = os.open(os.environ["BENCH_MARKS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    wire = Wire(port)
    link = wire.socket
    data = wire.consume(os.environ["BENCH_QUEUE"], int(os.environ["BENCH_PREFETCH"]))
    link.settimeout(None)
    prefix, tag, whole, left = _PREFIX.unpack_from, 0, 0, 0
    stamps: list[int] = []
    while True:
        position, count, size = 0, 0, len(data)
        while size - position >= 7:
            kind, _, length = prefix(data, position)
            end = position + length + 8
            if end > size:
                break
            if kind == 1:
                if data[position + 7 : position + 11] == _DELIVER:
                    at = position + 12 + data[position + 11]
                    tag = int.from_bytes(data[at : at + 8], "big")
            elif kind == 2:
                left = int.from_bytes(data[position + 11 : position + 19], "big")
                if not left:
                    count, whole = count + 1, tag
            elif kind == 3:
                left -= length
                if data[position + 7 : position + 9] == b"[[" and data[position + 9] == _ONE:
                    # The publisher's time, nineteen digits, is the first argument.
                    stamps.append(int(data[position + 9 : position + 28]))
                if not left:
                    count, whole = count + 1, tag
            position = end
        if count:
            link.sendall(_ACK.pack(1, 1, 13, 60, 80, whole, 1, 0xCE))
            now = time.monotonic_ns()
            if stamps:
                os.write(marks, b"".join(struct.pack("<QQ", stamp, now) for stamp in stamps))
                stamps.clear()
            else:
                os.write(marks, struct.pack("<Q", now) * count)
        chunk = link.recv(1 << 18)
        if not chunk:
            return
        data = data[position:] + chunk


if __name__ == "__main__":
    main()
