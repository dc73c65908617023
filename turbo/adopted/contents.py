"""The serializers that an app has registered with kombu, and what turbo's decoding has to know of them.

``teach_names`` runs in the command, so that ``accept_content`` may name them; ``own_contents`` in each child, whose
executor leaves bodies of these kinds to kombu. Nothing is decoded here.
"""

from __future__ import annotations

from kombu.serialization import registry

from turbo.protocol import content


def teach_names() -> None:
    """Let ``accept_content`` name every serializer that kombu knows."""
    for name, content_type in registry.name_to_type.items():
        if content_type not in content.SERIALIZERS and content_type in registry._decoders:
            content.register(name, None, None, content_type)


def own_contents() -> frozenset[str]:
    """The content types whose decoder is not kombu's own: registered by the app, or replaced by it."""
    return frozenset(
        content_type
        for content_type, decoder in registry._decoders.items()
        if not str(getattr(decoder, "__module__", "")).startswith("kombu.")
    )
