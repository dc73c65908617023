"""``turbo.canvas``: calls as values, under the name that Celery's module has. See ``app.signature``."""

from __future__ import annotations

from turbo.app.signature import Signature, maybe_signature, signature

subtask = signature
maybe_subtask = maybe_signature

__all__ = ["Signature", "maybe_signature", "maybe_subtask", "signature", "subtask"]
