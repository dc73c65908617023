"""Finds the command that a request names.

Between ``control.service`` and the commands, in the master. The worker's own commands are in the ``table()`` of
``control.inspect_commands``, ``task_commands``, ``worker_commands`` and ``pool_commands``. Users add commands with
``control.panel``; they and the commands that need the app are found through ``control.app_commands``. Pure: it must
never call a command.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from turbo.control.app_commands import AppCommands, Command

#: Returned by a command that sends no reply.
NO_REPLY: Final = object()


class Registry:
    """The worker's own commands, then the app's: an app cannot replace ``ping`` or ``revoke``."""

    def __init__(self, tables: Iterable[Mapping[str, Callable[..., Any]]], app: AppCommands) -> None:
        """Merge the tables. Raises ValueError for a name that two tables have."""
        self._own: dict[str, Callable[..., Any]] = {}
        for table in tables:
            for name, command in table.items():
                if name in self._own:
                    raise ValueError(f"two commands are called {name}")
                self._own[name] = command
        self._app = app

    def own(self, method: str) -> Callable[..., Any] | None:
        """Return a command to call on the loop."""
        return self._own.get(method)

    def apps(self, method: str) -> Command:
        """Return a command to call on the thread. Raises KeyError, as Celery does, if there is none."""
        found = self._app.find(method)
        if found is None:
            raise KeyError(method)
        return found
