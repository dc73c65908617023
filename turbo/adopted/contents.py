"""The content types that an app has taught kombu to read, or to read otherwise.

Asked in each child, whose executor leaves bodies of these kinds to kombu. Nothing is decoded here.
"""

from __future__ import annotations

from kombu.serialization import registry


def own_contents() -> frozenset[str]:
    """The content types whose decoder is not kombu's own: registered by the app, or replaced by it."""
    return frozenset(
        content_type
        for content_type, decoder in registry._decoders.items()
        if not str(getattr(decoder, "__module__", "")).startswith("kombu.")
    )
