"""The project. Importing it creates the app, so ``shared_task`` finds the app in every process."""

from mysite.tasks_app import app

__all__ = ["app"]
