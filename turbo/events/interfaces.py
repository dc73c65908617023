"""What the classes of ``turbo.events`` need of an app.

An app of turbo's fits. It must never be imported here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping


class EventApp(Protocol):
    """An app, as far as events need it."""

    @property
    def conf(self) -> Mapping[str, Any]:
        """The settings."""

    @property
    def control(self) -> Any:
        """Remote control."""

    def send_event(
        self, kind: str, fields: Mapping[str, Any], retry: bool = True, retry_policy: Mapping[str, object] | None = None
    ) -> None:
        """Send an event."""
