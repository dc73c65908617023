"""``turbo.canvas``: calls as values, under the names that Celery's module has. See ``app.signature``."""

from __future__ import annotations

from turbo.app.canvas_chain import chain
from turbo.app.canvas_chord import chord
from turbo.app.canvas_group import group
from turbo.app.canvas_maps import chunks, xmap, xstarmap
from turbo.app.canvas_rules import fold, follow
from turbo.app.signature import Signature, maybe_signature, set_rules, signature
from turbo.app.stamping import StampingVisitor, stamp

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
