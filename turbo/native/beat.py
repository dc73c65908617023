"""Beat of an app of turbo's own.

Run by ``cli.beat`` through ``native.app``, in the process of ``turbo beat``, when the app is imported and logging is
set up.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from turbo.beat.election import turn_of
from turbo.beat.service import Service

if TYPE_CHECKING:
    from turbo.app.base import Turbo
    from turbo.beat.options import BeatOptions
    from turbo.beat.stop_request import StopRequest

logger = logging.getLogger("celery.beat")


def run_beat(app: Turbo, options: BeatOptions, stop: StopRequest) -> None:
    """Send the periodic tasks until beat is asked to end.

    Raises ImproperlyConfigured for an unusable schedule.
    """
    app.conf.load()
    service = Service(
        app,
        max_interval=options.max_interval,
        schedule_filename=options.schedule_filename,
        scheduler_cls=options.scheduler,
        stop_request=stop,
        turn=turn_of(app.conf, options, stop),
    )
    if not service.scheduler.schedule:
        logger.warning("beat: beat_schedule is empty, and no task was added with add_periodic_task: nothing is sent")
    service.start(embedded_process=options.beside_worker)
    app.close()
