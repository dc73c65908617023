import os
import signal

from asgiref.sync import sync_to_async
from django.core.cache import cache
from django.db import connection, connections, transaction
from django.utils import timezone

from things.models import Article, Thing
from things.recorder import record
from turbo import current_app, shared_task, signals
from turbo.contrib.django.task import shared_task as shared_django_task

MASTER = 0


def backend_pid(alias="default"):
    """Return the pid of the server process that serves this thread's connection."""
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return cursor.fetchone()[0]


@signals.worker_init.connect
def connect_before_the_fork(**_):
    global MASTER
    MASTER = os.getpid()
    record("before", backend_pid())
    record("before, pooled", backend_pid("pooled"))


@signals.worker_process_init.connect
def look_at_the_inherited(**_):
    record("inherited", connection.connection is not None)


@signals.task_failure.connect
def look_in_the_master(task_id, **_):
    if os.getpid() == MASTER:
        record("heard", backend_pid())


@shared_task
def expand_abbreviations(article_id):
    article = Article.objects.filter(id=article_id).first()
    record("expands", article_id, article is not None)


@shared_task
def zones():
    return [str(current_app.timezone), str(timezone.get_current_timezone())]


@shared_task
def whose():
    cache.set("asked", True)
    return [os.getpid(), backend_pid()]


@shared_task
def whose_of_a_pool():
    return [os.getpid(), backend_pid("pooled")]


@shared_task
async def whose_in_a_coroutine():
    return [os.getpid(), await sync_to_async(backend_pid)()]


@shared_task(ignore_result=True)
def lose_connection():
    record("loses", backend_pid())
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")


@shared_task
def abandon_transaction():
    Thing.objects.create(name="kept")
    transaction.atomic().__enter__()
    Thing.objects.create(name="abandoned")
    return backend_pid()


@shared_django_task(bind=True)
def names(self):
    return list(Thing.objects.values_list("name", flat=True).order_by("pk"))


@shared_task
def die():
    os.kill(os.getpid(), signal.SIGKILL)
