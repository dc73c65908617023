"""Logging of an adopted app: Celery's own set-up, with its signals, its formats and its redirection.

Runs in the command, before anything is forked; children inherit the handlers, and open a file of their own where its
name holds their index.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from celery import Celery

    from turbo.log_format import LogSetup


def set_up(app: Celery, setup: LogSetup, hostname: str) -> None:
    """Do what ``celery worker`` does with ``-l``, ``-f`` and the settings."""
    handled = app.log.setup(
        setup.level, setup.logfile, redirect_stdouts=False, colorize=setup.colour, hostname=hostname
    )
    if setup.redirect_level is not None and not handled:
        app.log.redirect_stdouts(setup.redirect_level)
        os.environ.update(CELERY_LOG_REDIRECT="1", CELERY_LOG_REDIRECT_LEVEL=str(setup.redirect_level))
