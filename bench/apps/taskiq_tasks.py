"""The tasks for taskiq, whose worker runs this module by name: coroutines, as its users write them; no result backend.

The window that its library has by default is 10 messages, too small for more tasks at once: it is twice as many as run.
"""

from __future__ import annotations

import os
import uuid

import marks
from taskiq_aio_pika import AioPikaBroker, Queue, QueueType

broker = AioPikaBroker(
    os.environ["BENCH_BROKER"],
    # the same text as other libraries' ids, so that the bench can put another in its place
    task_id_generator=lambda: str(uuid.uuid4()),
    qos=max(10, 2 * int(os.environ["BENCH_SLOTS"])),
    task_queues=[Queue(name=os.environ["BENCH_QUEUE"], type=QueueType(os.environ["BENCH_QUEUE_TYPE"]))],
)


@broker.task(task_name="bench_tasks.noop")
async def noop() -> None:
    """Only say that it ran."""
    marks.done()


@broker.task(task_name="bench_tasks.wait")
async def wait(code: int) -> None:
    """Wait as long as the code says, and let others run."""
    await marks.wait_async(code)
