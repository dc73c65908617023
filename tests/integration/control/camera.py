"""A camera for ``turbo events``: prints the workers of each snapshot."""

from __future__ import annotations

from typing import Any

from celery.events.snapshot import Polaroid


class Camera(Polaroid):  # type: ignore[misc]
    """Prints what it sees."""

    clear_after = False

    def on_shutter(self, state: Any) -> None:
        """Take a picture."""
        for name, worker in state.workers.items():
            print(f"picture of {name}: {'alive' if worker.alive else 'gone'}", flush=True)
