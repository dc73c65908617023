"""Runs the tasks of a ``celery.Celery`` app: Celery's own tracer in the children, its own requests in the master.

The only package that imports Celery. ``cli.app_option`` imports it by name once it has met such an app.
"""
