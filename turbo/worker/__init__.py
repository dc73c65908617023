"""A worker: the wiring of its processes, and Celery's import paths for ``Request`` and ``Panel``.

Nothing is imported here: a program that names its own class of requests imports ``turbo.native.request`` from web
processes too, and must not load a worker with it.
"""
