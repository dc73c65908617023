"""Publish one task with real taskiq and print its id.

Argument: the task's name. Standard input: its arguments as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys

import taskiq_tasks


async def main() -> None:
    """Connect, publish, disconnect."""
    await taskiq_tasks.broker.startup()
    sent = await getattr(taskiq_tasks, sys.argv[1]).kiq(*json.load(sys.stdin))
    await taskiq_tasks.broker.shutdown()
    print(json.dumps({"id": sent.task_id, "reply_to": ""}))


asyncio.run(main())
