import os
import time

from celery import shared_task, signals
from django.core.cache import cache
from django.db import connection

from things.recorder import record


def backend_pid():
    """Return the pid of the server process that serves this thread's connection."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return cursor.fetchone()[0]


@signals.worker_init.connect
def connect_before_the_fork(**_):
    record("before", backend_pid())


@signals.worker_process_init.connect
def look_at_the_inherited(**_):
    record("inherited", connection.connection is not None)


@shared_task
def whose():
    cache.set("asked", True)
    return [os.getpid(), backend_pid()]


@shared_task
def fail(what):
    raise ValueError(what)


@shared_task(time_limit=1)
def hang():
    time.sleep(600)


@shared_task
def add(x, y):
    return x + y


@shared_task
def total(numbers):
    return sum(numbers)


@shared_task(ignore_result=True)
def lose_connection():
    record("loses", backend_pid())
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")


@shared_task
def tick():
    return "ticked"
