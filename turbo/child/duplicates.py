"""Recognises redelivered messages of succeeded tasks, and ends them unrun.

Runs in a child, between the acceptance of a task and its body, if ``worker_deduplicate_successful_tasks`` is set: a
broker that lost an acknowledgement delivers the message again. The child reads the store itself, over a connection of
the app. Callbacks and the rest of a chain are sent again unless the result names children, because they may have been
lost with the acknowledgement. For the same reason a part of a chord is counted again, which has no effect if it was
counted. It must never skip a task whose result cannot be read.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from turbo import states
from turbo.child import followups
from turbo.exceptions import TurboError
from turbo.policy.settling import Ending, Verb

if TYPE_CHECKING:
    from turbo.app.base import Turbo
    from turbo.child.chords import Chords
    from turbo.child.reporting import Reporter, Run

logger = logging.getLogger("celery.app.trace")


class Duplicates:
    """Ends redelivered messages of tasks that have succeeded before."""

    def __init__(self, app: Turbo, reporter: Reporter, chords: Chords) -> None:
        self._app = app
        self._reporter = reporter
        self._chords = chords

    def is_done(self, run: Run) -> bool:
        """Whether the task has succeeded before; if so, end its message.

        False if the store cannot be read.
        """
        message = run.message
        result = self._app.AsyncResult(message.id)
        try:
            if result.state != states.SUCCESS:
                return False
            if (message.callbacks or message.chain) and not result.children:
                followups.after_success(self._app, message, result.result)
            if message.chord is not None:
                # If this completes the chord, its counters are left to expire: this code does not wait for confirms.
                self._chords.succeeded(message, self._chords.encoded(message, result.result))
        except (TurboError, OSError) as error:
            logger.warning(
                "The earlier result of redelivered task %s cannot be read; it runs: %s", message.label, error
            )
            return False
        logger.info("Task %s has succeeded before its message was redelivered; it is not run again", message.label)
        self._reporter.done(run.seq, run.began, Verb.ACK, Ending.SUCCESS)
        return True
