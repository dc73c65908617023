"""What turbo's executor costs a child for one no-op task: records claimed, decoded, traced and reported.

Reads a captured message from standard input, as ``bench.trace`` writes it, and prints seconds: of the whole, and less
what the same records cost that are claimed and answered without being looked at. Both ends of the rings are in this
process; what the master's end does is outside of the time that counts.
"""

from __future__ import annotations

import json
import struct
import sys
import time
import uuid

from turbo import Turbo, current
from turbo.child.options import ChildOptions
from turbo.child.reporting import Reporter
from turbo.child.time_limits import SoftLimit
from turbo.native.executor import NativeExecutor
from turbo.policy.settling import Ending
from turbo.ring import frames
from turbo.ring.link import ChildLink, MasterLink

#: Messages between two looks at the clock: they are staged before, and their outcomes drained after.
BATCH = 50
_OPTIONS = ChildOptions(
    hostname="here", accept_content=frozenset({"application/json"}), max_body_size=1 << 27, time_limit=None,
    soft_time_limit=None, max_deliveries=5, async_concurrency=100, threads=0, stores=False, result_serializer="json",
    result_extended=False, queues=frozenset({"bench"}), verbose=False,
)  # fmt: skip


def noop() -> None:
    """Nothing."""


def main() -> None:
    """Run the messages and say how long that took."""
    order = json.load(sys.stdin)
    header, body = bytes.fromhex(order["header"]), order["body"].encode()
    app = Turbo("bench_trace", broker="amqp://localhost//")
    app.task(name=order["task"], ignore_result=True)(noop)
    app.finalize()
    master = MasterLink(1)
    link = ChildLink.attach(1, master.child_fds())
    soft = SoftLimit(link.page)
    soft.install()
    reporter = Reporter(
        link,
        soft,
        known_queues=_OPTIONS.queues,
        declaring=app.sending.publishing.client,
        result_serializer="json",
        stores=False,
    )
    current.set_publisher(reporter)
    current.set_state_store(reporter.store_state)
    executor = NativeExecutor(app, _OPTIONS, link, soft, reporter)
    whole, rings, old = 0.0, 0.0, order["id"].encode()
    answers: list[tuple[int, bytes]] = []
    for _ in range(order["count"] // BATCH):
        records = [
            frames.pack_task(0, _deliver(), header.replace(old, str(uuid.uuid4()).encode()), body) for _ in range(BATCH)
        ]
        _stage(master, records)
        whole += _run(link, executor)
        link.signal()
        answers = _drain(master)
        _stage(master, records)
        rings += _answer(link, answers[: len(answers) // BATCH])
        link.signal()
        _drain(master)
    print(json.dumps({"seconds": whole - rings, "whole": whole, "count": order["count"] // BATCH * BATCH}))


def _stage(master: MasterLink, records: list[tuple[bytes, ...]]) -> None:
    for record in records:
        master.stage(frames.TASK, record)
    master.commit()


def _answer(link: ChildLink, answers: list[tuple[int, bytes]]) -> float:
    """Claim what is staged and answer each record alike, telling the master as often as the executor does."""
    began = time.process_time()
    while (record := link.claim()) is not None:
        for kind, payload in answers:
            link.emit(kind, record[1], (payload,))
            if kind == frames.STARTED:
                link.signal()
    return time.process_time() - began


def _run(link: ChildLink, executor: NativeExecutor) -> float:
    """Run what is staged; processor seconds."""
    began = time.process_time()
    while (record := link.claim()) is not None:
        executor.execute(record[1], record[2])
    return time.process_time() - began


def _drain(master: MasterLink) -> list[tuple[int, bytes]]:
    """Take the outcomes off, and see that each is a success; return them as they came."""
    done, last = 0, 0
    answers: list[tuple[int, bytes]] = []
    for kind, seq, payload in master.drain():
        answers.append((kind, bytes(payload)))
        if kind == frames.DONE:
            done, last = done + 1, seq
            if frames.unpack_done(payload).ending != Ending.SUCCESS:
                sys.exit("the task failed")
    if done != BATCH:
        sys.exit(f"{done} of {BATCH} tasks were done")
    master.release(last)
    return answers


def _deliver() -> bytes:
    def short(text: bytes) -> bytes:
        return bytes([len(text)]) + text

    return short(b"turbo") + struct.pack(">QB", 7, 0) + short(b"bench") + short(b"bench")


if __name__ == "__main__":
    main()
