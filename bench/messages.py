"""Messages to fill queues with: one captured from a real producer, multiplied under new ids.

The producer publishes one task to the broker; its content header and body are taken as bytes. Copies differ
in the id alone (same length, so no length field changes) and, where a task takes one, in the publishing time.
"""

from __future__ import annotations

import json
import subprocess
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench import environments
from bench.contenders import APPS, Contender
from bench.processes import BenchError, clean_environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.amqp import Wire

#: Stands for a publishing time in a captured message; nineteen digits, as ``stamped`` gives.
TIME = 1_000_000_000_000_000_000


@dataclass(frozen=True, slots=True)
class Template:
    """A captured message."""

    header: bytes
    body: bytes
    id: bytes
    reply_to: str

    def copies(self, count: int) -> Iterator[tuple[bytes, bytes]]:
        """``count`` messages with an id each."""
        header, body, old = self.header, self.body, self.id
        for _ in range(count):
            new = str(uuid.uuid4()).encode()
            yield header.replace(old, new), body.replace(old, new)

    def stamped(self, now: int) -> tuple[bytes, bytes]:
        """One message with a new id whose argument ``TIME`` is ``TIME + now`` (nanoseconds)."""
        ((header, body),) = self.copies(1)
        old, new = str(TIME).encode(), str(TIME + now).encode()
        return header.replace(old, new), body.replace(old, new)


def capture(
    wire: Wire, contender: Contender, task: str, arguments: Sequence[object], *, env: dict[str, str]
) -> Template:
    """Have the contender's real producer publish ``task(*arguments)``, and take what it sent.

    ``env`` has the ``BENCH_…`` variables. The queue is left declared as the producer declared it, and empty.
    """
    framework = contender.messages
    script = APPS / f"publish_{framework}.py"
    run = subprocess.run(
        [environments.python_of(framework), script, task],
        env={**clean_environment(), **env, "BENCH_FRAMEWORK": framework, "PYTHONPATH": str(APPS)},
        cwd=APPS, capture_output=True, text=True, check=False, timeout=60, input=json.dumps(arguments),
    )  # fmt: skip
    if run.returncode != 0:
        raise BenchError(f"publishing with {framework} failed:\n{run.stdout[-500:]}{run.stderr[-2000:]}")
    told = json.loads(run.stdout)
    message = wire.take(contender.queue)
    if message is None:
        raise BenchError(f"{framework} published {task}, and {contender.queue} is empty")
    header, body = message
    if told["id"].encode() not in header + body:
        raise BenchError(f"the message of {task} does not hold its id {told['id']}")
    return Template(header, body, told["id"].encode(), told["reply_to"])
