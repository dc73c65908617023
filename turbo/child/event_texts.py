"""Makes the texts of the events that report the end of a task.

Runs in a child while the master sends task events: the master has neither the result nor the exception. Before it:
``child.endings`` and ``adopted.executor``. After it: the DONE record. A text from here never raises and has a bounded
length.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from turbo.protocol.event import quoted
from turbo.protocol.saferepr import saferepr, shown
from turbo.ring import frames

if TYPE_CHECKING:
    from turbo.ring.control_page import ChildPage

#: The longest repr of an exception, in characters.
_LONGEST_REPR: Final = 4_000
#: The longest traceback, in characters. Of a longer one the end is kept, which names the cause.
_LONGEST_TRACEBACK: Final = 20_000


def of_result(page: ChildPage, result: object, longest: int) -> bytes:
    """Return the packed text of a result, of about ``longest`` characters at most.

    Empty if no event is sent.
    """
    if not page.sends_events():
        return b""
    return _NONE if result is None else of_text(saferepr(result, longest))


def of_text(text: str) -> bytes:
    """Return the packed text of a result that is text already."""
    return frames.pack_texts(quoted(text))


def of_error(page: ChildPage, error: BaseException | None, trace: str | None) -> bytes:
    """Return the packed texts of an exception and its traceback.

    Empty if no event is sent.
    """
    if not page.sends_events():
        return b""
    return frames.pack_texts(quoted(shown(error)[:_LONGEST_REPR]), quoted((trace or "")[-_LONGEST_TRACEBACK:]))


#: What most tasks return.
_NONE: Final = of_text("None")
