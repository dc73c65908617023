"""structlog with what ``task_prerun`` binds: every JSON line of a task says which task it is of."""

from __future__ import annotations

import json

import pytest

from tests.integration.adopted.place import Place

APP = """
import logging
import sys
import structlog

def bound(logger, method, event):
    return structlog.contextvars.merge_contextvars(logger, method, event)

@signals.setup_logging.connect
def set_up(**_):
    chain = [bound, structlog.stdlib.add_log_level, structlog.stdlib.add_logger_name]
    structlog.configure(
        processors=[*chain, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(), wrapper_class=structlog.stdlib.BoundLogger,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=chain,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, structlog.processors.JSONRenderer()],
    ))
    logging.basicConfig(level=logging.INFO, handlers=[handler])

@signals.task_prerun.connect
def bind(task_id, task, **_):
    structlog.contextvars.bind_contextvars(task_id=task_id, task_name=task.name)

@signals.task_postrun.connect
def unbind(**_):
    structlog.contextvars.clear_contextvars()

@signals.worker_process_shutdown.connect
def bye(**_):
    structlog.get_logger("proj").info("bye")

@app.task(name="proj.work")
def work(count):
    structlog.get_logger("proj").info("working", count=count)
    logging.getLogger("plain").warning("of %d", count)
"""


@pytest.mark.row("SG3")
def test_each_line_of_a_task_says_which_task(place: Place) -> None:
    place.write(APP)
    with place.worker("-c", "1") as worker:
        worker.wait_for_line(r'"event": ".*ready\."')
        for count in range(2):
            place.client.send_task("proj.work", (count,), task_id=f"id-{count}").get(timeout=60)
        worker.terminate()
        assert worker.wait() == 0
        lines = [json.loads(line) for line in worker.output.splitlines() if line.startswith("{")]
    for count in range(2):
        of_task = {"task_id": f"id-{count}", "task_name": "proj.work"}
        assert {"event": "working", "count": count, "level": "info", "logger": "proj", **of_task} in lines
        assert {"event": f"of {count}", "level": "warning", "logger": "plain", **of_task} in lines
        (succeeded,) = [line for line in lines if f"id-{count}] succeeded" in line["event"]]
        assert succeeded["logger"] == "celery.app.trace"
        assert of_task.items() <= succeeded.items(), "Celery logs it before the signal that unbinds"
    assert {"event": "bye", "level": "info", "logger": "proj"} in lines
