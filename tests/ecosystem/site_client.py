"""A client of the site, run by the tests in a separate process; sends, waits and prints the results as JSON."""

import json
import sys

import django

django.setup()

from celery import chord  # noqa: E402  the site's app comes with it
from django.db import transaction  # noqa: E402
from site_proj.celery import app  # noqa: E402
from things import tasks  # noqa: E402


def outcome(sent):
    sent.get(timeout=90, propagate=False)
    return [sent.state, repr(sent.result), bool(sent.traceback)]


def results():
    done = {
        "add": outcome(tasks.add.delay(1, 2)),
        "fail": outcome(tasks.fail.delay("as it must")),
        "hang": outcome(tasks.hang.delay()),
        "expired": outcome(tasks.add.apply_async((1, 2), expires=-5)),
    }
    with transaction.atomic():
        sent = []
        transaction.on_commit(lambda: sent.append(tasks.add.delay(5, 6)))
        assert not sent
    done["committed"] = outcome(*sent)
    if "chord" in sys.argv:
        done["chord"] = outcome(chord([tasks.add.s(1, 2), tasks.add.s(3, 4)])(tasks.total.s()))
    return done


def connections():
    seen = [tasks.whose.delay().get(timeout=90) for _ in range(2)]
    if "lose" in sys.argv:
        tasks.lose_connection.delay()
        seen.append(tasks.whose.delay().get(timeout=90))
    return seen


def schedule():
    from django_celery_beat.models import IntervalSchedule, PeriodicTask

    every, _ = IntervalSchedule.objects.get_or_create(every=1, period=IntervalSchedule.SECONDS)
    PeriodicTask.objects.create(interval=every, name="each second", task="things.tasks.tick", headers='{"of": "beat"}')


print(json.dumps({"results": results, "connections": connections, "schedule": schedule}[sys.argv[1]]()))
app.close()
