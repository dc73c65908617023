import os

SECRET_KEY = "not one"
INSTALLED_APPS = ["django_celery_results", "django_celery_beat", "things"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": os.environ["PGHOST"],
        "PORT": os.environ["PGPORT"],
        "USER": os.environ["PGUSER"],
        "NAME": os.environ["PGDATABASE"],
    }
}
CACHES = {"default": {"BACKEND": "things.caches.Watched", "LOCATION": os.environ["PROJ_BACKEND"]}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
CELERY_BROKER_URL = os.environ["PROJ_BROKER"]
CELERY_RESULT_BACKEND = os.environ.get("SITE_RESULTS", "django-db")
CELERY_TASK_DEFAULT_QUEUE = os.environ.get("SITE_QUEUE", "celery")
CELERY_CACHE_BACKEND = "default"
CELERY_RESULT_EXTENDED = True
CELERY_TASK_TRACK_STARTED = True
CELERY_DB_REUSE_MAX = int(os.environ.get("SITE_REUSE", "0"))
