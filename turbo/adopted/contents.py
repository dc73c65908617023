"""Finds the content types whose decoder an app has set or replaced in kombu.

Called in each child, whose executor leaves bodies of these types to kombu. It must never decode anything.
"""

from __future__ import annotations

from kombu.serialization import registry


def own_contents() -> frozenset[str]:
    """Return the content types whose decoder is not kombu's own."""
    return frozenset(
        content_type
        for content_type, decoder in registry._decoders.items()
        if not str(getattr(decoder, "__module__", "")).startswith("kombu.")
    )
