"""``Observers``: a list of functions that are called when an event happens.

An object that is constructed early has a list of observers; an object that is constructed later registers a function
there. In this way every object gets its collaborators through its constructor, although they call one another. Used by
the master, the AMQP client and the children, in one thread of each. It must never catch an observer's exception or
defer a call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVarTuple

if TYPE_CHECKING:
    from collections.abc import Callable

Args = TypeVarTuple("Args")


class Observers(Generic[*Args]):
    """The functions to call for one event, in the order of registration."""

    __slots__ = ("_functions",)

    def __init__(self) -> None:
        self._functions: list[Callable[[*Args], None]] = []

    def add(self, function: Callable[[*Args], None]) -> None:
        """Register a function."""
        self._functions.append(function)

    def __call__(self, *args: *Args) -> None:
        """Call every registered function now."""
        for function in self._functions:
            function(*args)
