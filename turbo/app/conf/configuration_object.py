"""The configuration object: the module, mapping or other object that a program names for its settings.

Named by ``config_from_object``, imported by ``app.conf.conf`` at the first look-up, and read by it under every name
that a setting may have. It must never know what a setting is worth.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, Final

from turbo.app.conf.loading import resolve
from turbo.app.conf.settings import OLD_NAMES, SETTINGS
from turbo.exceptions import ImproperlyConfigured

#: Stands for a value that nobody has given.
MISSING: Final = object()
_NEW_TO_OLD: Final = {new: old for old, new in OLD_NAMES.items()}


class ConfigurationObject:
    """``given`` is a mapping, module or object, or the path of one; None stands for what CELERY_CONFIG_MODULE names.

    ``namespace`` is the prefix of its names; ``silent`` lets one that cannot be imported count as empty.
    """

    def __init__(self, given: object, *, namespace: str | None, silent: bool) -> None:
        self.namespace = namespace
        self._given = given
        self._silent = silent
        self._source: object = MISSING
        #: The old names of settings in it, once it is loaded.
        self.old_names: list[str] = []

    @property
    def loaded(self) -> bool:
        """Whether it has been imported."""
        return self._source is not MISSING

    def load(self) -> None:
        """Import it. Raises what that raises, and ImproperlyConfigured for one that mixes old names with new ones."""
        given = self._given
        if given is None:
            given = os.environ.get("CELERY_CONFIG_MODULE") or {}
        try:
            source = resolve(given)
        except (ImportError, AttributeError):
            if not self._silent:
                raise
            source = {}
        have = set(source) if isinstance(source, Mapping) else set(dir(source))
        if not self.namespace:
            _check_names(have)
        self.old_names = sorted(have & OLD_NAMES.keys())
        self._source = source

    def get(self, name: str) -> Any:
        """Return the setting ``name``, by whichever of its names it is there; MISSING without, and before ``load``."""
        source = self._source
        for candidate in self._names_of(name):
            if isinstance(source, Mapping):
                value = source.get(candidate, MISSING)
            else:
                value = getattr(source, candidate, MISSING)
            if value is not MISSING:
                return value
        return MISSING

    def _names_of(self, name: str) -> Iterator[str]:
        prefix = self.namespace
        if prefix:
            prefix = prefix.rstrip("_") + "_"
            yield prefix + (name.upper() if prefix.isupper() else name)
        yield name
        if name in _NEW_TO_OLD:
            yield _NEW_TO_OLD[name]


def _check_names(have: set[str]) -> None:
    """Refuse a configuration object that sets some settings by old names and others by new ones."""
    new = have & SETTINGS.keys()
    old = have & OLD_NAMES.keys()
    if not new or not old:
        return
    rename: Mapping[str, str] = OLD_NAMES if len(new) >= len(old) else _NEW_TO_OLD
    lines = sorted(
        f"{name:<36} -> {rename[name]}"
        for name in (old if rename is OLD_NAMES else new)
        if rename.get(name, name) not in have
    )
    if lines:
        raise ImproperlyConfigured(
            "the configuration mixes old and new names of settings; rename these:\n" + "\n".join(lines)
        )
