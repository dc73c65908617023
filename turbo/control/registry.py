"""Finds the command that a request names.

Between ``control.service`` and the commands, in the master. The worker's own commands are in the modules of this
package that have a ``table()``. Commands that need the app are found through ``control.app_commands``, and so are
users' own, which turbo's apps add with ``control.panel``. Pure: it must never call a command.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from turbo.control.app_commands import AppCommands, Command

#: Returned by a command that sends no reply.
NO_REPLY: Final = object()


class Registry:
    """Finds commands by name: the worker's own first.

    So an app cannot replace ``ping`` or ``revoke``.
    """

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
        """Return the worker's own command of this name, to call on the loop.

        None if it has none.
        """
        return self._own.get(method)

    def apps(self, method: str) -> Command:
        """Return the app's command of this name, to call on the thread.

        Raises KeyError if there is none, as Celery.
        """
        found = self._app.find(method)
        if found is None:
            raise KeyError(method)
        return found
