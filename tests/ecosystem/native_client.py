"""A client of the native project, run by the tests in a separate process; prints what it saw as JSON."""

import asyncio
import json
import sys
from datetime import timedelta

import django

django.setup()

from django.db import transaction  # noqa: E402
from django.test import RequestFactory  # noqa: E402
from django.utils import timezone  # noqa: E402
from native_proj.tasks_app import app  # noqa: E402
from things import jobs, tasks, views  # noqa: E402
from things.models import Article, Thing  # noqa: E402

WAIT = 60


def zones():
    return tasks.zones.delay().get(timeout=WAIT)


def connections(number="2"):
    return [tasks.whose.delay().get(timeout=WAIT) for _ in range(int(number))]


def lost():
    tasks.lose_connection.delay()
    return connections("1")


def pooled():
    return [tasks.whose_of_a_pool.delay().get(timeout=WAIT) for _ in range(2)]


def coroutines():
    return [tasks.whose_in_a_coroutine.delay().get(timeout=WAIT) for _ in range(2)]


def abandoned():
    pid = tasks.abandon_transaction.delay().get(timeout=WAIT)
    return [pid, tasks.names.delay().get(timeout=WAIT), tasks.whose.delay().get(timeout=WAIT)]


def deaths():
    for _ in range(2):
        tasks.die.delay().get(timeout=WAIT, propagate=False)


def on_commit():
    """Return what the worker finds for each way of sending at a commit."""
    seen = []
    with transaction.atomic():
        Thing.objects.create(name="committed")
        seen.append(tasks.names.delay_on_commit())
        seen.append(tasks.names.apply_async_on_commit((), ignore_result=True))
        transaction.on_commit(lambda: seen.append(tasks.names.delay()))
        sent_early = len(seen) > 2
    found = seen[2].get(timeout=WAIT)
    return [seen[:2], sent_early, "committed" in found]


def guide():
    """Return the responses of the guide's views."""
    asked = RequestFactory().post("/articles/new/")
    return [
        [view(asked).url, Article.objects.latest("pk").pk]
        for view in (views.create_article_63, views.create_article_64, views.create_article_65)
    ]


# -- Django's own tasks --------------------------------------------------------------------------------------


def ended(result):
    """Wait for the end of a call of one of Django's tasks; return its visible attributes."""
    app.AsyncResult(result.id).get(timeout=WAIT, propagate=False)
    again = result.task.get_result(result.id)
    result.refresh()
    assert [again.status, again.started_at] == [result.status, result.started_at]
    times = [result.enqueued_at, result.started_at, result.last_attempted_at, result.finished_at]
    return {
        "status": result.status,
        "value": result.return_value if result.status == "SUCCESSFUL" else None,
        "errors": [[e.exception_class.__name__, e.traceback] for e in result.errors],
        "in order": all(times) and times == sorted(times),
        "called": [result.args, result.kwargs, result.backend, result.task.name],
        "workers": result.worker_ids,
    }


def enqueued():
    sent = jobs.add.enqueue(1, y=2)
    return {
        "sent": [sent.status, sent.is_finished, sent.attempts],
        "add": ended(sent),
        "context": ended(jobs.context.using(priority=50).enqueue(name="n")),
        "coroutine": ended(jobs.wait.enqueue(0.1)),
        "fail": ended(jobs.fail.enqueue("as it must")),
        "not json": ended(jobs.not_json.enqueue()),
        "killed": ended(jobs.kill.enqueue()),
        "awaited": ended(asyncio.run(jobs.add.aenqueue(3, 4))),
        "from a task": ended(jobs.chain.get_result(ended(jobs.chain.enqueue(1))["value"])),
    }


def deferred():
    """Return what is known of a task that is due in an hour, and what has come of one that is due in a second."""
    later = jobs.add.using(run_after=timezone.now() + timedelta(hours=1)).enqueue(1, 1)
    found = jobs.add.get_result(later.id)
    before = [found.status, found.task.run_after == later.task.run_after, found.attempts]
    late = jobs.add.using(run_after=timezone.now() + timedelta(seconds=1)).enqueue(1, 1)
    return [before, ended(late)["status"], late.started_at >= late.task.run_after]


def refusals():
    done = {}
    for name, call in {
        "unknown": lambda: jobs.add.get_result("nobody"),
        "of another": lambda: jobs.fail.get_result(jobs.add.enqueue(1, 2).id),
        "queue": lambda: jobs.add.using(queue_name="nowhere"),
        "arguments": lambda: jobs.add.enqueue(object()),
        "unreadable": lambda: jobs.silently.get_result(jobs.silently.enqueue().id),
    }.items():
        try:
            done[name] = repr(call())
        except Exception as error:  # noqa: BLE001 - its class is what is asked for
            done[name] = type(error).__name__
    return done


def queued():
    """Send without waiting to a queue without consumers: with the lowest, no, and the highest priority."""
    for priority in (-100, 0, 100):
        jobs.add.using(queue_name="express", priority=priority).enqueue(1, 2)


chosen, *rest = sys.argv[1:]
print(json.dumps(globals()[chosen](*rest)))
app.close()
