"""The project. Importing it makes the app, so that ``shared_task`` finds it in every process."""

from mysite.tasks_app import app

__all__ = ["app"]
