import os

import django

SECRET_KEY = "not one"
INSTALLED_APPS = ["things"] if django.VERSION >= (6,) else ["things", "django_tasks"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": os.environ["PGHOST"],
        "PORT": os.environ["PGPORT"],
        "USER": os.environ["PGUSER"],
        "NAME": os.environ["PGDATABASE"],
        "CONN_MAX_AGE": int(os.environ.get("SITE_MAX_AGE", "0")),
    }
}
DATABASES["pooled"] = {
    **DATABASES["default"],
    "CONN_MAX_AGE": 0,
    "OPTIONS": {"pool": {"min_size": 1, "max_size": 2}},
}
CACHES = {"default": {"BACKEND": "things.caches.Watched", "LOCATION": os.environ["PROJ_BACKEND"]}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "Europe/Oslo"
TASKS = {
    "default": {"BACKEND": "turbo.contrib.django.tasks.TurboBackend", "QUEUES": ["default", "express"]},
    "silent": {"BACKEND": "turbo.contrib.django.tasks.TurboBackend", "OPTIONS": {"app": "native_proj.silent:app"}},
}
CELERY_BROKER_URL = os.environ["PROJ_BROKER"]
CELERY_RESULT_BACKEND = os.environ["PROJ_BACKEND"]
CELERY_TASK_DEFAULT_QUEUE = os.environ.get("SITE_QUEUE", "celery")
CELERY_TASK_QUEUE_MAX_PRIORITY = 10
CELERY_TASK_TIME_LIMIT = 44
