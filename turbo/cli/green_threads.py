"""Refuses an app whose import has patched the standard library for green threads.

Runs in the command, once the app and its modules are imported. Under such patches the worker's own loop, forks and
signals do not work, and a start would end in a traceback. It must never import what patches.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from turbo.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Library, its module that knows what is patched, the mapping in there by patched modules, and what applies the patch.
_LIBRARIES: Final = (
    ("gevent", "gevent.monkey", "saved", "gevent.monkey.patch_all()"),
    ("eventlet", "eventlet.patcher", "already_patched", "eventlet.monkey_patch()"),
)


def refuse_patched(modules: Mapping[str, object] = sys.modules) -> None:
    """Raise ImproperlyConfigured, naming the library, when the standard library is patched. ``modules`` by name."""
    for library, module, attribute, call in _LIBRARIES:
        patched = getattr(modules.get(module), attribute, None)
        if patched:
            names = ", ".join(sorted(name for name in patched if not name.startswith("_")))
            raise ImproperlyConfigured(
                f"{library} has patched the standard library ({names}), and this worker's processes cannot work "
                f"with that: take {call} out of what the worker imports, or run this app with Celery's own "
                f"worker and --pool {library}. Tasks that wait may be `async def` here, with --async-concurrency"
            )
