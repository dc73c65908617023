"""Runs the tasks of a ``celery.Celery`` app by Celery's own code.

Its tracer runs in the children, its requests in the master.

The only package that imports Celery. ``cli.app_option`` imports it by name once it has met such an app.
"""
