"""``turbo.serialization``: serializers and types of the program's own; turbo's are in ``protocol.content``.

``register`` adds a serializer under a name that settings and calls may use. Its arguments are those of the function of
this name in kombu: the name, a function from a value to bytes or text, one from bytes to a value, the content type, and
the content encoding. ``register_type`` lets a class travel in JSON: the class, a tag (None: what it becomes travels
without one), a function from the value to plain data, one back. Register in a module that clients and workers import.
What is registered with kombu itself works as well.
"""

from __future__ import annotations

from turbo.protocol.content import register
from turbo.protocol.tagged_json import register_type

__all__ = ["register", "register_type"]
