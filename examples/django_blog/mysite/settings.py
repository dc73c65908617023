"""Django's settings, and the app's with the prefix ``CELERY_``."""

import os

SECRET_KEY = os.environ.get("SECRET_KEY", "an example needs none; yours does")
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = "mysite.urls"
INSTALLED_APPS = ["django.contrib.sites", "blog"]
SITE_ID = 1
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": os.environ.get("PGHOST", "127.0.0.1"),
        "PORT": os.environ.get("PGPORT", "5432"),
        "USER": os.environ.get("PGUSER", "blog"),
        "PASSWORD": os.environ.get("PGPASSWORD", "blog"),
        "NAME": os.environ.get("PGDATABASE", "blog"),
    }
}

AKISMET_URL = os.environ.get("AKISMET_URL", "https://rest.akismet.com")
AKISMET_KEY = os.environ.get("AKISMET_KEY", "")

CELERY_BROKER_URL = os.environ.get("BROKER_URL", "amqp://guest:guest@127.0.0.1:5672//")
# If a worker or a child is killed, its message comes back and another child runs the task.
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_TIME_LIMIT = 60
