"""The tasks for dramatiq, which runs this module by name; default middleware."""

from __future__ import annotations

import os

import dramatiq
import marks
from dramatiq.brokers.rabbitmq import RabbitmqBroker

dramatiq.set_broker(RabbitmqBroker(url=os.environ["BENCH_BROKER"]))
QUEUE = os.environ["BENCH_QUEUE"]


@dramatiq.actor(queue_name=QUEUE)
def noop():
    """Only say that it ran."""
    marks.done()


@dramatiq.actor(queue_name=QUEUE)
def stamp(published):
    """Say when it began, beside the publisher's time."""
    marks.pair(published)


@dramatiq.actor(queue_name=QUEUE)
def pause(seconds):
    """Take that long."""
    marks.span(seconds)


@dramatiq.actor(queue_name=QUEUE)
def payload(data):
    """Take a large argument."""
    marks.done()
    len(data)


@dramatiq.actor(queue_name=QUEUE)
def wait(code):
    """Wait as long as the code says."""
    marks.wait(code)


@dramatiq.actor(queue_name=QUEUE)
def work(code, seconds):
    """Take that long; the code tells the task from others."""
    marks.work(code, seconds)
