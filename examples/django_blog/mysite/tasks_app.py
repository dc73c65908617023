"""The app: settings from Django, tasks from the installed applications."""

import os

from turbo import Turbo

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")

app = Turbo("mysite")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
