"""Implements ``Signature.stamp``: sets custom headers on a call and its parts.

A ``StampingVisitor`` returns the stamps of each call, chain, group and chord; the parts of a canvas get its stamps too.
Runs where the canvas is made; sends nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from turbo.app.canvas.call_form import several
from turbo.app.canvas.chain import chain
from turbo.app.canvas.chord import chord
from turbo.app.canvas.group import group
from turbo.app.canvas.signature import Signature, maybe_signature
from turbo.app.canvas.stamps import merged

if TYPE_CHECKING:
    from collections.abc import Mapping


class StampingVisitor(ABC):
    """Base class of stamping visitors: a method returns the stamps of a part.

    The key ``stamped_headers`` lists which of the returned headers are stamps; without it, all are. Each method
    receives the stamps that the part has so far as ``headers``.
    """

    @abstractmethod
    def on_signature(self, sig: Any, **headers: Any) -> Mapping[str, Any]:
        """Return the stamps of a single call."""

    def on_group_start(self, group: Any, **headers: Any) -> Mapping[str, Any]:
        """Return the stamps of a group; called before its members are stamped."""
        return {}

    def on_group_end(self, group: Any, **headers: Any) -> None:  # noqa: B027 - optional
        """Called after the members of a group were stamped."""

    def on_chain_start(self, chain: Any, **headers: Any) -> Mapping[str, Any]:
        """Return the stamps of a chain; called before its steps are stamped."""
        return {}

    def on_chain_end(self, chain: Any, **headers: Any) -> None:  # noqa: B027 - optional
        """Called after the steps of a chain were stamped."""

    def on_chord_header_start(self, sig: Any, **header: Any) -> Mapping[str, Any]:
        """Return the stamps of a chord's header, which is a group."""
        if not isinstance(sig.tasks, group):
            sig.tasks = group(sig.tasks)
        return self.on_group_start(sig.tasks, **header)

    def on_chord_header_end(self, sig: Any, **header: Any) -> None:
        """Called after a chord's header was stamped."""
        self.on_group_end(sig.tasks, **header)

    def on_chord_body(self, sig: Any, **header: Any) -> Mapping[str, Any]:
        """Return the stamps of a chord's body."""
        return {}

    def on_callback(self, callback: Any, **header: Any) -> Mapping[str, Any]:
        """Return the stamps of a callback (``link``)."""
        return {}

    def on_errback(self, errback: Any, **header: Any) -> Mapping[str, Any]:
        """Return the stamps of an error callback (``link_error``)."""
        return {}


def stamp(sig: Signature, visitor: Any, append: bool, stamps: Mapping[str, Any]) -> None:
    """Implement ``Signature.stamp``.

    ``append`` keeps all values of a stamp instead of the first.
    """
    if isinstance(sig, chain):
        _whole(sig, visitor, append, stamps, "on_chain_start", "on_chain_end", sig.tasks)
    elif isinstance(sig, group):
        _whole(sig, visitor, append, stamps, "on_group_start", "on_group_end", sig.tasks)
    elif isinstance(sig, chord):
        parts = sig.tasks.tasks if isinstance(sig.tasks, group) else sig.tasks
        stamps = _whole(sig, visitor, append, stamps, "on_chord_header_start", "on_chord_header_end", parts)
        if visitor is not None and sig.body is not None:
            found = visitor.on_chord_body(sig, **stamps) or {}
            sig.body.stamp(visitor, append, **merged(stamps, found, sig.options, append))
    else:
        _links(sig, visitor, append, stamps)
        found = None if visitor is None else visitor.on_signature(sig, **stamps) or {}
        sig.options.update(merged(stamps, found, sig.options, append))


def _whole(
    sig: Signature, visitor: Any, append: bool, stamps: Mapping[str, Any], start: str, end: str, parts: list[Any]
) -> dict[str, Any]:
    """Stamp the callbacks and ``parts`` of a chain, group or chord header.

    Returns the stamps that they got.
    """
    found = None if visitor is None else getattr(visitor, start)(sig, **stamps) or {}
    given = merged(stamps, found, sig.options, append)
    _links(sig, visitor, append, given)
    for part in parts:
        part.stamp(visitor, append, **given)
    if visitor is not None:
        getattr(visitor, end)(sig, **given)
    return given


def _links(sig: Signature, visitor: Any, append: bool, stamps: Mapping[str, Any]) -> None:
    """Stamp the callbacks of a call with those of ``stamps`` that are new to it."""
    for name, ask in (("link", "on_callback"), ("link_error", "on_errback")):
        given = deepcopy(dict(stamps))
        links = [maybe_signature(link, sig.given_app) for link in several(sig.options.get(name))]
        for link in links:
            found = None if visitor is None else getattr(visitor, ask)(link, **given) or {}
            given = merged(given, found, None, append)
            link.stamp(visitor, append, **given)
        if links:
            sig.options[name] = links
