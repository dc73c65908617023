"""Which command a request names, and how it is called.

Between ``control.service`` and the modules of commands. Pure: it only looks up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from turbo.control.app_commands import AppCommands, Command

#: What a command returns whose asker is left without an answer.
NO_REPLY: Final = object()


class Registry:
    """The worker's own commands before the app's: an app cannot change what ``ping`` or ``revoke`` do."""

    def __init__(self, tables: Iterable[Mapping[str, Callable[..., Any]]], app: AppCommands) -> None:
        """Raises ValueError for a name that two tables have."""
        self._own: dict[str, Callable[..., Any]] = {}
        for table in tables:
            for name, command in table.items():
                if name in self._own:
                    raise ValueError(f"two commands are called {name}")
                self._own[name] = command
        self._app = app

    def own(self, method: str) -> Callable[..., Any] | None:
        """A command to call on the loop."""
        return self._own.get(method)

    def apps(self, method: str) -> Command:
        """A command to call on the thread. Raises KeyError, as Celery's look-up does, when there is none at all."""
        found = self._app.find(method)
        if found is None:
            raise KeyError(method)
        return found
