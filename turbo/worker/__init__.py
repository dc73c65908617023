"""The wiring of a worker, and Celery's import paths for ``Request`` and ``Panel``.

This module imports nothing: a program with its own request class imports ``turbo.worker.request`` in web processes too,
and that must not load a worker.
"""
