"""The app of the fleet as Flower has it: with a minute for a worker's answer to a command.

Flower leaves it at the second that is the default: then a worker on a busy machine drops the command as too old, or
its answer comes too late.
"""

from __future__ import annotations

from functools import partialmethod

from tests.harness.processes import PATIENCE
from tests.integration.events.evented import app

_control = type(app.control)
_control.broadcast = partialmethod(_control.broadcast, timeout=PATIENCE)  # type: ignore[assignment]

__all__ = ["app"]
