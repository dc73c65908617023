"""The configuration object: the mapping, module or object with the settings.

Named by ``config_from_object``, imported by ``app.conf.conf`` at the first look-up, and searched under every name that
a setting may have. This module does not interpret values.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, Final

from turbo.app.conf.loading import resolve
from turbo.app.conf.settings import OLD_NAMES, SETTINGS
from turbo.exceptions import ImproperlyConfigured

#: Marks a value that was not given.
MISSING: Final = object()
_NEW_TO_OLD: Final = {new: old for old, new in OLD_NAMES.items()}


class ConfigurationObject:
    """Access to the settings in a configuration object.

    ``given`` is a mapping, module or object, or its import path; None means the module that CELERY_CONFIG_MODULE names.
    ``namespace`` is the prefix of its names. With ``silent``, an object that cannot be imported counts as empty.
    """

    def __init__(self, given: object, *, namespace: str | None, silent: bool) -> None:
        self.namespace = namespace
        self._given = given
        self._silent = silent
        self._source: object = MISSING
        #: The old names of settings in the object; filled by ``load``.
        self.old_names: list[str] = []

    @property
    def loaded(self) -> bool:
        """Whether the object has been imported."""
        return self._source is not MISSING

    def load(self) -> None:
        """Import the object.

        Raises the import's error (unless ``silent``), and ImproperlyConfigured when the object mixes old and new names.
        """
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
        """Return the value of the setting ``name`` under any of its names.

        MISSING if absent or before ``load``.
        """
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
    """Raise ImproperlyConfigured when ``have`` mixes old and new names of settings."""
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
