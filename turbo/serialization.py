"""``turbo.serialization``: registers serializers, and types for JSON.

``register`` adds a serializer under a name for settings and calls. Its arguments are those of kombu's ``register``: the
name, a function that encodes a value to bytes or text, one that decodes bytes, the content type and the content
encoding. ``register_type`` adds a class to the JSON serializer: the class, a tag (None: the data is sent without a tag
and not converted back), a function from the value to plain data, and one back. Register in a module that clients and
workers import. Serializers registered with kombu work as well. turbo's own are in ``protocol.content``.
"""

from __future__ import annotations

from turbo.protocol.content import register
from turbo.protocol.tagged_json import register_type

__all__ = ["register", "register_type"]
