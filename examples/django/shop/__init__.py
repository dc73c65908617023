"""The project. Importing it creates the Celery app, so ``shared_task`` finds the app in every process."""

from shop.celery import app as celery_app

__all__ = ["celery_app"]
