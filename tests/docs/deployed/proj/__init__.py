"""The Celery app that docs/migrating.md calls ``proj``."""
