"""turbo's transport with nothing on top: its connection and its rings, to children that decode and run nothing.

What a worker of this shape could reach at most; the distance to turbo is what dispatch policy, ledger, decoding and
tracing cost. A child claims a record, marks it as a task would, and reports an empty outcome; every outcome is
acknowledged. Run as ``python -m bench.apps.sketch_worker CHILDREN``.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time

import marks
import uvloop

from turbo.amqp.consume.link import BrokerLink
from turbo.amqp.topology import Queue
from turbo.amqp.url import parse_broker_urls
from turbo.ring.link import ChildLink, MasterLink

#: Records that a child may hold: about the look-ahead that short tasks are given.
_AHEAD = 64
_KIND = 1


class Sketch:
    """The master: deliveries go to the child that holds the fewest, outcomes become acks."""

    def __init__(self, links: list[MasterLink]) -> None:
        self.broker: BrokerLink | None = None
        self._links = links
        self._held: list[dict[int, tuple[int, int]]] = [{} for _ in links]
        self._waiting: list[tuple[int, tuple[int, bytes, bytes, bytes]]] = []

    def on_deliveries(self, epoch: int, queue: str, batch: list[tuple[int, bytes, bytes, bytes]]) -> None:
        """Hand out what fits; the rest waits for outcomes."""
        self._waiting.extend((epoch, each) for each in batch)
        self._hand_out()

    def on_session_up(self, epoch: int) -> None:
        """Nothing to do."""

    def on_session_lost(self, epoch: int, reason: str) -> None:
        """A bench does not survive it: stop."""
        asyncio.get_running_loop().stop()

    def on_consumer_cancelled(self, epoch: int, queue: str) -> None:
        """Nothing to do."""

    def on_outcomes(self, index: int) -> None:
        """Acknowledge what a child reports."""
        link, held = self._links[index], self._held[index]
        assert self.broker is not None
        last = 0
        for _, seq, _ in link.drain():
            epoch, tag = held.pop(seq)
            self.broker.ack(epoch, tag)
            last = seq
        if last:
            link.release(last)
            self._hand_out()

    def _hand_out(self) -> None:
        waiting, position = self._waiting, 0
        for link, held in sorted(zip(self._links, self._held, strict=True), key=lambda pair: len(pair[1])):
            staged = False
            while position < len(waiting) and len(held) < _AHEAD:
                epoch, (tag, _, header, body) = waiting[position]
                seq = link.stage(_KIND, (header, body))
                if seq is None:
                    break
                held[seq] = (epoch, tag)
                position += 1
                staged = True
            if staged:
                link.commit()
        del waiting[:position]


def _child(link: ChildLink) -> None:
    while True:
        record = link.claim()
        if record is None:
            link.wait()
            continue
        marks.done()
        link.emit(_KIND, record[1], ())
        link.signal()


async def _serve(links: list[MasterLink]) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    sketch = Sketch(links)
    for index, link in enumerate(links):
        loop.add_reader(link.outcome_fd, sketch.on_outcomes, index)
    name = os.environ["BENCH_QUEUE"]
    sketch.broker = BrokerLink(
        parse_broker_urls(os.environ["BENCH_BROKER"]),
        [Queue(name, no_declare=True)],
        prefetch_count=int(os.environ["BENCH_PREFETCH"]),
    )
    await sketch.broker.start(sketch)
    await stop.wait()
    await sketch.broker.stop(time.monotonic() + 5)


def main() -> None:
    """Fork the children, then serve until SIGTERM."""
    lifeline, kept = os.pipe()
    links: list[MasterLink] = []
    for epoch in range(1, int(sys.argv[1]) + 1):
        link = MasterLink(epoch)
        if os.fork() == 0:
            os.close(kept)
            _child(ChildLink.attach(epoch, link.child_fds(), lifeline_fd=lifeline))
        links.append(link)
        link.close_child_fds()
    os.close(lifeline)
    uvloop.run(_serve(links))
    for link in links:
        link.close()
    os.close(kept)


if __name__ == "__main__":
    main()
