"""Celery's import paths for things that live elsewhere here."""
