"""Tasks of Django's own task framework."""

import asyncio
import os
import signal

try:
    from django.tasks import signals, task
except ImportError:
    from django_tasks import signals, task

from things.recorder import record


@task
def add(x, y):
    return x + y


@task(priority=100, takes_context=True)
def context(context, *, name):
    found = context.task_result
    return [name, context.attempt, found.id, found.status, found.task.priority, found.task.queue_name]


@task
async def wait(seconds):
    await asyncio.sleep(seconds)
    return seconds


@task
def fail(text):
    raise LookupError(text)


@task
def not_json():
    return object()


@task
def kill():
    os.kill(os.getpid(), signal.SIGKILL)


@task(takes_context=True)
async def chain(context, depth):
    if depth:
        return (await chain.aenqueue(depth - 1)).id
    return context.task_result.id


@task(backend="silent")
def silently():
    record("silently")


def connect():
    for name in ("task_started", "task_finished"):
        getattr(signals, name).connect(_tell(name), weak=False)


def _tell(name):
    def tell(sender, task_result, **_):
        record(name, sender.__name__, task_result.task.name, task_result.status, task_result.is_finished)

    return tell


connect()
