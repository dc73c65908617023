"""Refuses an app whose import has patched the standard library for green threads.

Runs in the command, after the app and its modules are imported. With such patches the worker's loop, forks and signals
do not work, and the start would end with a traceback. It must never import the patching libraries itself.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from turbo.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Library, the module that records its patches, the attribute with the patched modules, and the patching call.
_LIBRARIES: Final = (
    ("gevent", "gevent.monkey", "saved", "gevent.monkey.patch_all()"),
    ("eventlet", "eventlet.patcher", "already_patched", "eventlet.monkey_patch()"),
)


def refuse_patched(modules: Mapping[str, object] = sys.modules) -> None:
    """Raise ImproperlyConfigured if a library has patched the standard library.

    The error names the library. ``modules`` are the imported modules by name.
    """
    for library, module, attribute, call in _LIBRARIES:
        patched = getattr(modules.get(module), attribute, None)
        if patched:
            names = ", ".join(sorted(name for name in patched if not name.startswith("_")))
            raise ImproperlyConfigured(
                f"{library} has patched the standard library ({names}), and this worker's processes cannot work "
                f"with that. Remove {call} from the modules that the worker imports, or run this app with Celery's "
                f"worker and --pool {library}. For concurrent waiting, use `async def` tasks and --async-concurrency"
            )
