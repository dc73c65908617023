"""The dict form of a call: task name, arguments, options, ``subtask_type``.

The base of ``app.canvas.signature``, which adds sending and joining. Pure: dicts in, dicts out. The methods for calls
that are part of a canvas are defined here for single calls; chains, groups and chords override them.
"""

from __future__ import annotations

from typing import Any, Final, Self


class CallForm(dict[str, Any]):
    """A dict whose keys are also attributes.

    It has the methods that chains, groups and chords call on their parts.
    """

    @property
    def task(self) -> str:
        """The task's name."""
        name: str = self["task"]
        return name

    @task.setter
    def task(self, value: str) -> None:
        self["task"] = value

    @property
    def name(self) -> str:
        """The task's name, under the attribute that tasks use."""
        return self.task

    @property
    def args(self) -> Any:
        """Positional arguments."""
        return self.get("args") or ()

    @args.setter
    def args(self, value: Any) -> None:
        self["args"] = value

    @property
    def kwargs(self) -> dict[str, Any]:
        """Keyword arguments."""
        return self.setdefault("kwargs", {}) or {}

    @kwargs.setter
    def kwargs(self, value: dict[str, Any]) -> None:
        self["kwargs"] = value

    @property
    def options(self) -> dict[str, Any]:
        """Options of ``Task.apply_async``."""
        options: dict[str, Any] | None = self.get("options")
        if options is None:
            options = self["options"] = {}
        return options

    @options.setter
    def options(self, value: dict[str, Any]) -> None:
        self["options"] = value

    @property
    def subtask_type(self) -> str | None:
        """``chain``, ``group`` and so on; None for a single task."""
        return self.get("subtask_type")

    @subtask_type.setter
    def subtask_type(self, value: str | None) -> None:
        self["subtask_type"] = value

    @property
    def immutable(self) -> bool:
        """Whether the signature ignores further arguments."""
        return bool(self.get("immutable"))

    @immutable.setter
    def immutable(self, value: bool) -> None:
        self["immutable"] = value

    @property
    def id(self) -> str | None:
        """The id of the call, or None before it is set."""
        return self.options.get("task_id")

    @id.setter
    def id(self, value: str | None) -> None:
        self.options["task_id"] = value

    @property
    def parent_id(self) -> str | None:
        """The id of the task that sends the call, or None before it is set."""
        return self.options.get("parent_id")

    @parent_id.setter
    def parent_id(self, value: str | None) -> None:
        self.options["parent_id"] = value

    @property
    def root_id(self) -> str | None:
        """The id of the first task of the workflow, or None before it is set."""
        return self.options.get("root_id")

    @root_id.setter
    def root_id(self, value: str | None) -> None:
        self.options["root_id"] = value

    def append_to_list_option(self, key: str, value: Any) -> Any:
        """Append ``value`` to the list option ``key`` unless it is there.

        Returns ``value``.
        """
        items = self._list_option(key)
        if value not in items:
            items.append(value)
        return value

    def extend_list_option(self, key: str, value: Any) -> None:
        """Append one or several values to the list option ``key``.

        ``value`` is one item, or a list, tuple or set of items.
        """
        self._list_option(key).extend(several(value))

    def link(self, callback: Any) -> Any:
        """Add a callback that is called with the result when the task succeeds.

        Returns ``callback``.
        """
        return self.append_to_list_option("link", callback)

    def link_error(self, errback: Any) -> Any:
        """Add an error callback that is called when the task fails; return ``errback``."""
        return self.append_to_list_option("link_error", errback)

    def on_error(self, errback: Any) -> Self:
        """Add an error callback, as :meth:`link_error` does; return self."""
        self.link_error(errback)
        return self

    def _list_option(self, key: str) -> list[Any]:
        items = self.options.get(key)
        if not isinstance(items, list):
            items = self.options[key] = several(items)
        return items

    # -- called on the parts of a canvas ---------------------------------------------------------------------

    def chord_size(self) -> int:
        """Return how many tasks a chord waits for when this call is in its header."""
        return 1

    def is_empty(self) -> bool:
        """Return whether the call contains no task to run."""
        return False

    def split_bodies(self) -> None:
        """Move the remaining steps of a chain out of the bodies of chords.

        They become steps of the chain that contains the chord.
        """

    def leave_chord(self) -> None:
        """Remove the chord that the last task of this call would report to."""
        self.options.pop("chord", None)

    def strip_headers(self) -> None:
        """Remove the bodies from the header tasks of nested chords.

        Sending a chord adds them again. Otherwise the message of every header task of a pending chord would
        contain a copy of all following calls.
        """


def several(value: Any) -> list[Any]:
    """Return a new list of the items of a list, tuple or set, or of a single value.

    Empty for None.
    """
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple, set, frozenset)) else [value]


#: Arguments of the built-in canvas tasks that hold signatures.
_PARTS: Final = ("tasks", "header", "body", "task")


def plain(value: Any) -> Any:
    """Convert a signature, or a list of them, recursively to plain dicts.

    Returns any other value unchanged.
    """
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if not isinstance(value, dict) or "task" not in value:
        return value
    form = dict(value)
    if options := form.get("options"):
        links = {name: several(options[name]) for name in ("link", "link_error") if options.get(name) is not None}
        links |= {name: options[name] for name in ("chain", "chord") if options.get(name)}
        form["options"] = {**options, **{name: plain(each) for name, each in links.items()}}
    if (kwargs := form.get("kwargs")) and form["task"].startswith("celery."):
        form["kwargs"] = {name: plain(part) if name in _PARTS else part for name, part in kwargs.items()}
    return form
