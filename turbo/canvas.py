"""``turbo.canvas``: signatures, chains, groups and chords under Celery's names."""

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

# Celery has these names as well, and programs use them in isinstance checks.
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
