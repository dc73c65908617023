"""Tasks that log in every possible way, of a turbo app, or of a Celery app with LOGGING_CELERY."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

if os.environ.get("LOGGING_CELERY"):
    from celery import Celery
    from celery.utils.log import get_task_logger
else:
    from turbo import Celery
    from turbo.utils.log import get_task_logger

app = Celery("logging", broker=os.environ.get("LOGGING_BROKER"))
of_tasks = get_task_logger("shop.tasks")
plain = logging.getLogger("shop.library")

if os.environ.get("LOGGING_OWN"):
    # A handler and a format of the program's own, for a logger that is nobody else's.
    own = logging.StreamHandler(sys.stderr)
    own.setFormatter(logging.Formatter("OWN %(task_name)s[%(task_id)s] %(message)s"))
    logging.getLogger("shop.own").addHandler(own)
    logging.getLogger("shop.own").propagate = False


class Data(logging.Handler):
    """A log handler that prints the ``data`` attribute of the record of a task's end."""

    def emit(self, one: logging.LogRecord) -> None:
        """Print the names in ``data`` and the task's name."""
        shown: dict[str, Any] = dict(getattr(one, "data", {}))
        sys.__stderr__.write(f"DATA {sorted(shown)} {shown.get('name')}\n")  # type: ignore[union-attr]


if os.environ.get("LOGGING_OWN"):
    logging.getLogger("celery.app.trace").addHandler(Data())


@app.task(name="shop.say")
def say(word: str) -> str:
    of_tasks.warning("task's: %s", word)
    plain.warning("library's: %s", word, extra={"order": 7})
    logging.getLogger("shop.own").warning("own: %s", word)
    print(f"printed: {word}")
    return word


@app.task(name="shop.fails")
def fails() -> None:
    try:
        raise KeyError("inner")
    except KeyError:
        plain.exception("handled")
    raise ValueError("boom")


@app.task(name="shop.redirects")
def redirects() -> None:
    """Redirect printed output to another logger, as in the Tasks guide."""
    old = sys.stdout, sys.stderr
    rlevel = app.conf.worker_redirect_stdouts_level
    try:
        app.log.redirect_stdouts_to_logger(of_tasks, rlevel)
        print("by the task's logger")
        print("an error", file=sys.stderr)
    finally:
        sys.stdout, sys.stderr = old
    print("by the worker's again")
