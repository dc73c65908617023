import os

from turbo import Turbo

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "native_proj.settings")
app = Turbo("native_proj")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
