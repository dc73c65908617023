"""Formats workers' replies for people, tasks and queues as tables.

Used by ``turbo inspect``, ``control`` and ``status``. The lines that name a worker are Celery's, since scripts search
for them. Pure: values in, text out.
"""

from __future__ import annotations

import json
import textwrap
from datetime import UTC, datetime
from pprint import pformat
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

#: Longest text in a cell; ``--json`` prints the whole.
_CELL: Final = 60
_INDENT: Final = "    "


def _time(seconds: Any) -> str:
    if not isinstance(seconds, int | float):
        return ""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _task(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": row.get("id"), "task": row.get("name"), "args": row.get("args"), "kwargs": row.get("kwargs")}


def _running(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**_task(row), "started (UTC)": _time(row.get("time_start")), "pid": row.get("worker_pid")}


def _waiting(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"eta": row.get("eta"), "priority": row.get("priority"), **_task(row.get("request") or {})}


def _queue(row: Mapping[str, Any]) -> dict[str, Any]:
    exchange = row.get("exchange") or {}
    return {
        "queue": row.get("name"),
        "exchange": exchange.get("name"),
        "type": exchange.get("type"),
        "routing key": row.get("routing_key"),
    }


#: By command: what a row of the reply becomes in the table.
_ROWS: Final[Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]]] = {
    "active": _running,
    "active_queues": _queue,
    "reserved": _task,
    "scheduled": _waiting,
}


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows with the same keys as columns of text, under a line of the keys."""
    names = list(rows[0])
    cells = [names, *([_cell(row[name]) for name in names] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in cells
    )


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    text = value if isinstance(value, str) else repr(value)
    text = " ".join(text.split())
    return text if len(text) <= _CELL else text[: _CELL - 1] + "…"


def headline(node: str, answer: Any, *, quiet: bool) -> str:
    """Return the line that says which worker replied, and whether with an error."""
    failed = isinstance(answer, dict) and "error" in answer and "ok" not in answer
    outcome = click.style("ERROR", fg="red", bold=True) if failed else click.style("OK", fg="green", bold=True)
    arrow = "" if quiet else click.style("->", fg="white", bold=True) + " "
    return f"{arrow} {click.style(f'{node}: ', fg='cyan', bold=True)}{outcome}"


def body(command: str, answer: Any) -> str:
    """Return an answer as text, indented."""
    return textwrap.indent(_text(command, answer), _INDENT)


def _text(command: str, answer: Any) -> str:
    if isinstance(answer, str):
        return answer
    if isinstance(answer, list | tuple):
        return _lines(command, answer)
    if isinstance(answer, dict):
        for key in ("ok", "error"):
            if key in answer:
                return textwrap.indent(_text(command, answer[key]), _INDENT)
        if command == "query_task" and answer:
            return table(
                [{"id": key, "state": state, "task": (row or {}).get("name")} for key, (state, row) in answer.items()]
            )
        return json.dumps(answer, sort_keys=True, indent=4, default=str)
    return pformat(answer)


def _lines(command: str, answer: Sequence[Any]) -> str:
    if not answer:
        return "- empty -"
    row = _ROWS.get(command)
    if row is not None and all(isinstance(each, dict) for each in answer):
        return table([row(each) for each in answer])
    return "\n".join(f"{click.style('*', fg='white')} {each}" for each in answer)


def count(nodes: int) -> str:
    """Return the last line of ``status`` and ``inspect``."""
    return f"\n{nodes} {'node' if nodes == 1 else 'nodes'} online."
