"""Reads ``task_annotations``: task attributes that the configuration sets.

Called once per task, when it is bound to its app. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from turbo.app.conf.loading import resolve

if TYPE_CHECKING:
    from turbo.app.interfaces import TaskLike


def annotations_for(setting: Any, task: TaskLike) -> list[tuple[str, Any]]:
    """Return (name, value) pairs of a task's attributes: its own, then ``*``.

    The setting is a mapping of task names, an object with ``annotate(task)``, an import path of one, or a list of
    these. A name that begins with ``@`` replaces that method by ``value(method)``.
    """
    if setting is None:
        return []
    found: list[tuple[str, Any]] = []
    for entry in setting if isinstance(setting, (list, tuple)) else (setting,):
        source = resolve(entry)
        if isinstance(source, type):
            source = source()
        if isinstance(source, Mapping):
            chosen = (source.get(task.name), source.get("*"))
        else:
            every: Callable[[], Any] | None = getattr(source, "annotate_any", None)
            chosen = (source.annotate(task), every() if every is not None else None)
        for attributes in chosen:
            found += (attributes or {}).items()
    return [
        (name[1:], value(getattr(task, name[1:]))) if name.startswith("@") else (name, value) for name, value in found
    ]
