"""The setting ``task_annotations``: attributes that the configuration gives to tasks.

Asked once per task, when it is bound to its app. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from turbo.app.conf.loading import resolve

if TYPE_CHECKING:
    from turbo.app.task import Task


def annotations_for(setting: Any, task: Task) -> list[tuple[str, Any]]:
    """Return names and values of the attributes for ``task``: those of its name first, then those of ``*``.

    The setting is a mapping of task names, an object with ``annotate(task)``, its path, or a list of these. A
    name beginning with ``@`` wraps the method it names by calling the value with it.
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
