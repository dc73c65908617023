"""Removes turbo's own frames from tracebacks under Celery's tracer.

Runs in a child, called by ``adopted.tracing`` and ``adopted.coroutine_tracing`` when a body has raised. Frames are
known by their module and function: a compiled function has no code object of its own. It must never remove a frame of a
body.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container


def drop_own_frames(error: BaseException, own: Container[tuple[str, str]]) -> None:
    """Remove frames of ``own`` functions from the head of a traceback.

    ``own``: (module, name). A bare ``raise`` afterwards uses the traceback as it is and adds no frame.
    """
    found = error.__traceback__
    while found is not None:
        frame = found.tb_frame
        if (frame.f_globals.get("__name__"), frame.f_code.co_name) not in own:
            break
        found = found.tb_next
    error.__traceback__ = found
