"""The error for a message that names no task.

``message`` raises it, ``child.refusals`` catches it. Runs in every process. Pure. It has a module of its own that stays
Python in a compiled build: mypyc gives an exception class whose base is not compiled the wrong size.
"""

from __future__ import annotations

from turbo.exceptions import InvalidTaskError


class UnknownMessageError(InvalidTaskError):
    """The message is not a task message of any form: nothing in it names a task."""
