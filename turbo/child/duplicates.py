"""Redelivered messages whose task has succeeded before: recognised by their stored result, and not run again.

Runs in a child, between the acceptance of a task and its body, where ``worker_deduplicate_successful_tasks`` asks for
it: a broker that lost an acknowledgement delivers again what is done. The store is read by the child itself, over a
connection of the app's own. Callbacks and the rest of a chain are sent again unless the result names children: they may
have been lost with the acknowledgement. So may the count of a part of a chord: it is counted again, which counts once.
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
    from turbo.app.task import Task
    from turbo.child.chords import Chords
    from turbo.child.done import DoneRecords
    from turbo.child.endings import Run
    from turbo.policy.task_options import TaskOptions

logger = logging.getLogger("celery.app.trace")


def wanted(task: Task, options: TaskOptions) -> bool:
    """Whether redelivered messages of this task are looked up: those acknowledged late, in a store that can be read."""
    conf = task.app.conf
    backend = str(conf["result_backend"] or "")
    return bool(
        options.acks_late
        and conf["worker_deduplicate_successful_tasks"]
        and backend
        and not backend.startswith(("rpc", "disabled"))
    )


class Duplicates:
    """Ends redelivered messages of tasks that are done."""

    def __init__(self, app: Turbo, done: DoneRecords, chords: Chords) -> None:
        self._app = app
        self._done = done
        self._chords = chords

    def is_done(self, run: Run) -> bool:
        """Whether the task has succeeded before; its message is then ended. A store that cannot be read says no."""
        message = run.message
        result = self._app.AsyncResult(message.id)
        try:
            if result.state != states.SUCCESS:
                return False
            if (message.callbacks or message.chain) and not result.children:
                followups.after_success(self._app, message, result.result)
            if message.chord is not None:
                # The counters of a chord that is completed here are left to expire: nothing here waits for the broker.
                self._chords.succeeded(message, self._chords.encoded(message, result.result))
        except (TurboError, OSError) as error:
            logger.warning("Whether %s was done before cannot be told; it runs: %s", message.label, error)
            return False
        logger.info("Task %s was done before its message came again: it is not run", message.label)
        self._done.write(run.seq, run.began, Verb.ACK, Ending.SUCCESS)
        return True
