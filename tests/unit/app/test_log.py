"""What ``turbo.app.log`` gives to programs that set up handlers of their own."""

from __future__ import annotations

import logging

import pytest

from turbo import Turbo
from turbo.app.log import TaskFormatter
from turbo.utils.log import get_logger

LINE = logging.LogRecord("shop", logging.ERROR, "shop.py", 1, "sold %d", (3,), None)


def test_a_handlers_own_format_has_the_task() -> None:
    app = Turbo("logs", set_as_current=False)

    @app.task(bind=True, name="logs.sell", shared=False)
    def sell(self: object) -> str:
        return TaskFormatter("%(task_name)s[%(task_id)s] %(message)s", use_color=False).format(
            logging.makeLogRecord(vars(LINE))
        )

    assert sell.apply(task_id="7").get() == "logs.sell[7] sold 3"


@pytest.mark.parametrize(("use_color", "line"), [(False, "??? sold 3"), (True, "\x1b[31m??? sold 3\x1b[0m")])
def test_outside_a_task_it_says_so(use_color: bool, line: str) -> None:
    record = logging.makeLogRecord(vars(LINE))
    found = TaskFormatter("%(task_name)s %(message)s", use_color=use_color).format(record)
    assert found.replace("\x1b[1;31m", "\x1b[31m") == line


def test_a_logger_by_celerys_function() -> None:
    assert get_logger("shop.orders") is logging.getLogger("shop.orders")
