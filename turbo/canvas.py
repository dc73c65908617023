"""``turbo.canvas``: calls as values, under the names that Celery's module has. See ``app.canvas.signature``."""

from __future__ import annotations

from turbo.app.canvas.chain import chain
from turbo.app.canvas.chord import chord
from turbo.app.canvas.group import group
from turbo.app.canvas.maps import chunks, xmap, xstarmap
from turbo.app.canvas.rules import fold, follow
from turbo.app.canvas.signature import Signature, maybe_signature, set_rules, signature
from turbo.app.canvas.stamping import StampingVisitor, stamp

subtask = signature
maybe_subtask = maybe_signature

# Programs ask for the kinds by these names too, which are Celery's own.
_chain = chain
_chord = chord

set_rules(follow, fold, stamp)

__all__ = [
    "Signature",
    "StampingVisitor",
    "chain",
    "chord",
    "chunks",
    "group",
    "maybe_signature",
    "maybe_subtask",
    "signature",
    "subtask",
    "xmap",
    "xstarmap",
]
