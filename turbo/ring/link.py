"""The two ends of one child incarnation's shared memory: ``MasterLink`` and ``ChildLink``.

What: both rings, the control page and the channel for oversize bodies behind one handle a side. Place: the
only module of this package that master and child code use. A link belongs to one incarnation and is never
reset or reused: a grandchild may still hold the old descriptors.
"""

from __future__ import annotations

from turbo.ring.body_files import BodyFiles
from turbo.ring.child_link import ChildLink
from turbo.ring.layout import RingCorrupt, RingDetached, RingUnavailable
from turbo.ring.master_link import MasterLink, PostMortem

__all__ = ["BodyFiles", "ChildLink", "MasterLink", "PostMortem", "RingCorrupt", "RingDetached", "RingUnavailable"]
