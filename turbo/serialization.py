"""``turbo.serialization.register``: a serializer of the program's own, under a name that settings and calls may use.

Its arguments are those of the function of this name in kombu: the name, a function from a value to bytes or text, one
from bytes to a value, the content type, and the content encoding. Register it in a module that clients and workers
import. What is registered with kombu itself works as well.
"""

from __future__ import annotations

from turbo.protocol.content import register

__all__ = ["register"]
