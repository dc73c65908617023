"""Django's settings, and Celery's with the prefix ``CELERY_``."""

import os
from datetime import timedelta

SECRET_KEY = os.environ.get("SECRET_KEY", "an example needs none; yours does")
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = "shop.urls"
INSTALLED_APPS = ["orders"]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": os.environ.get("PGHOST", "127.0.0.1"),
        "PORT": os.environ.get("PGPORT", "5432"),
        "USER": os.environ.get("PGUSER", "shop"),
        "PASSWORD": os.environ.get("PGPASSWORD", "shop"),
        "NAME": os.environ.get("PGDATABASE", "shop"),
    }
}

CELERY_BROKER_URL = os.environ.get("BROKER_URL", "amqp://guest:guest@127.0.0.1:5672//")
CELERY_TASK_IGNORE_RESULT = True  # the orders' rows hold their state
# If a worker or a child is killed, its message comes back and another child runs the task.
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_TIME_LIMIT = 60
CELERY_BEAT_SCHEDULE = {
    "close-stale-orders": {"task": "orders.tasks.close_stale", "schedule": timedelta(seconds=5)},
}
