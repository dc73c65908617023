"""What remote control asks of an app: its tasks, its configuration, a report, commands that the program has added.

Between ``control.service`` and the app; ``native.commands`` and ``adopted.commands`` implement it. What is found here
looks at the user's objects, so it is called on a thread beside the master's loop, never on it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from turbo.exceptions import TurboError

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Takes the arguments of a request by name; returns the reply.
Command = Callable[..., Any]


class AppCommands(Protocol):
    """What of remote control only an app can answer."""

    def find(self, method: str) -> Command | None:
        """The command of this name; None when the app has none."""

    def revoked(self, task_ids: Sequence[str]) -> None:
        """These tasks were revoked and neither run nor wait here; called on the thread, before the reply."""


class NoSuchCommandError(TurboError):
    """A command of Celery's that this worker does not have."""
