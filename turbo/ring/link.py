"""Exports both ends of a child's shared memory: its master's and its own.

They are ``MasterLink`` and ``ChildLink``.

Each end combines both rings, the control page and the channel for oversize bodies. Code of the master and of children
imports this package through this module only. A link belongs to one child process and must never be reset or reused: a
grandchild may still hold the old descriptors.
"""

from __future__ import annotations

from turbo.ring.body_files import BodyFiles
from turbo.ring.child_link import ChildLink
from turbo.ring.layout import RingCorrupt, RingDetached, RingUnavailable
from turbo.ring.master_link import MasterLink, PostMortem

__all__ = ["BodyFiles", "ChildLink", "MasterLink", "PostMortem", "RingCorrupt", "RingDetached", "RingUnavailable"]
