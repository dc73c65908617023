"""Calls every function that was registered for something when it happens.

A part that is made early announces something: it has a list of observers. A part that is made later registers in its
constructor. So every part gets what it needs by its constructor, although they call one another. Used by the master and
the AMQP client, on the loop. It must never catch what an observer raises, and never call one later than at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVarTuple

if TYPE_CHECKING:
    from collections.abc import Callable

Args = TypeVarTuple("Args")


class Observers(Generic[*Args]):
    """The functions to call when one thing happens, in the order in which they were registered."""

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
