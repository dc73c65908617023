"""Replaces Celery's worker when a program imports it.

Imported by Python itself at its start.

Every Python process below ``turbo exec`` imports this module, so it imports nothing of turbo until Celery's worker is
imported. It then imports the ``sitecustomize`` that the environment would have had without it.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from importlib.abc import Loader, MetaPathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

#: What is replaced, by its module.
_REPLACED: Final = {"celery.bin.worker": "worker", "celery.apps.worker": "Worker"}
_TAKEOVER: Final = "turbo.cli.startup.takeover"


class _AfterImport(Loader):
    """Loads a module by its own loader, and then replaces one object in it."""

    def __init__(self, loader: Any, name: str) -> None:
        self._loader = loader
        self._name = name

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Let the module's own loader make it."""
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Run the module, then put turbo's object in the place of Celery's."""
        self._loader.exec_module(module)
        vars(module)[self._name] = getattr(importlib.import_module(_TAKEOVER), self._name)


class _Finder(MetaPathFinder):
    """Finds the modules of Celery's worker command and class, and nothing else."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the module's own spec with the other loader."""
        if fullname not in _REPLACED:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is not None:
                spec.loader = _AfterImport(spec.loader, _REPLACED[fullname])
                return spec
        return None


def _start() -> None:
    sys.meta_path.insert(0, _Finder())
    here = str(Path(__file__).parent)
    sys.path[:] = [entry for entry in sys.path if entry != here]
    mine = sys.modules.pop("sitecustomize", None)
    with contextlib.suppress(ModuleNotFoundError):
        importlib.import_module("sitecustomize")
    if mine is not None:
        sys.modules.setdefault("sitecustomize", mine)


if __name__ == "sitecustomize":
    _start()
