"""The tasks for Celery and for turbo: one module, the framework's name in ``BENCH_FRAMEWORK``."""

from __future__ import annotations

import asyncio
import os
import time

import marks

if os.environ["BENCH_FRAMEWORK"] == "turbo":
    from turbo import Turbo as App
else:
    from celery import Celery as App

app = App("bench_tasks", broker=os.environ["BENCH_BROKER"], backend=os.environ.get("BENCH_BACKEND") or None)
app.conf.task_default_queue = os.environ["BENCH_QUEUE"]
if os.environ.get("BENCH_QUEUE_TYPE") == "quorum":
    app.conf.task_default_queue_type = "quorum"
if "BENCH_MULTIPLIER" in os.environ:
    app.conf.worker_prefetch_multiplier = int(os.environ["BENCH_MULTIPLIER"])
if os.environ.get("BENCH_ACKS_LATE"):
    app.conf.task_acks_late = True
if os.environ.get("BENCH_REJECT_LOST"):
    app.conf.task_reject_on_worker_lost = True


@app.task(name="bench_tasks.noop", ignore_result=True)
def noop():
    """Only say that it ran."""
    marks.done()


@app.task(name="bench_tasks.noop_result")
def noop_result():
    """Say that it ran and return something to store."""
    marks.done()
    return 1


@app.task(name="bench_tasks.stamp", ignore_result=True)
def stamp(published):
    """Say when it began, beside the publisher's time."""
    marks.pair(published)


@app.task(name="bench_tasks.pause", ignore_result=True)
def pause(seconds):
    """Take that long."""
    marks.span(seconds)


@app.task(name="bench_tasks.meet", ignore_result=True)
def meet(count):
    """Wait until so many tasks have begun."""
    marks.meet(count)


@app.task(name="bench_tasks.snooze", ignore_result=True)
def snooze():
    """Wait 5 ms and keep the process."""
    time.sleep(0.005)
    marks.done()


@app.task(name="bench_tasks.nap", ignore_result=True)
async def nap():
    """Wait 5 ms and let others run; no worker but turbo's runs it."""
    await asyncio.sleep(0.005)
    marks.done()


@app.task(name="bench_tasks.payload", ignore_result=True)
def payload(data):
    """Take a large argument."""
    marks.done()
    return len(data)


@app.task(name="bench_tasks.wait", ignore_result=True)
def wait(code):
    """Wait as long as the code says."""
    marks.wait(code)


@app.task(name="bench_tasks.wait_async", ignore_result=True)
async def wait_async(code):
    """Wait as long as the code says, and let others run; no worker but turbo's runs it."""
    await marks.wait_async(code)


@app.task(name="bench_tasks.work", ignore_result=True)
def work(code, seconds):
    """Take that long; the code tells the task from others."""
    marks.work(code, seconds)
