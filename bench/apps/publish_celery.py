"""Publish one task with real Celery and print its id and reply queue; what it sent is the bench's to copy.

Argument: the task's name. Standard input: its arguments as JSON.
"""

from __future__ import annotations

import json
import sys

import bench_tasks

task = getattr(bench_tasks, sys.argv[1])
result = task.apply_async(args=json.load(sys.stdin))
print(json.dumps({"id": result.id, "reply_to": bench_tasks.app.thread_oid}))
