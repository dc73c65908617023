"""``app.conf``: the configuration of an app, merged from its sources.

Used by everything that has an app. Precedence: a setting's environment variable, then what was set on the app
(constructor, ``app.conf.x = …``, ``update``), then defaults added by libraries, then the configuration object,
then the declared default. The configuration object is imported at the first look-up, so it may be named before it can
be imported. In a worker the configuration is frozen at start. This module contains nothing specific to one setting's
meaning: that is declared in ``app.conf.settings``.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from copy import deepcopy
from typing import Any, Final

from turbo.app.conf.addresses import broker_url, store_url
from turbo.app.conf.configuration_object import MISSING, ConfigurationObject
from turbo.app.conf.setting import Setting, Status
from turbo.app.conf.settings import OLD_NAMES, SETTINGS
from turbo.exceptions import ImproperlyConfigured

_SECRET: Final = re.compile("API|TOKEN|KEY|SECRET|PASS|SIGNATURE|DATABASE|PROFANITIES", re.IGNORECASE)
#: A password in a URL, up to the URL's last @, so that an unescaped @ in the password does not reveal its tail.
_CREDENTIALS: Final = re.compile(r"(?<=://)([^:@/\s]*):\S*?(?=@[^@\s;,]*(?:[;,\s]|$))")
_IN_QUERY: Final = re.compile(r"(?<=[?&])([^=&\s]*(?:pass|secret|token|key)[^=&\s]*)=[^&\s]*", re.IGNORECASE)
_MASK: Final = "********"
_STARTED: Final = "this worker has started; change settings where the app is created, or in a celeryd_init receiver"
_OWN: Final = frozenset(
    {
        "_changes",
        "_layers",
        "_object",
        "_cache",
        "_defaults",
        "_on_load",
        "_on_loaded",
        "_loading",
        "_frozen",
        "version",
    }
)

#: Settings whose missing parts come from other settings.
_COMPLETED: Final[Mapping[str, Callable[[Any, Mapping[str, Any]], Any]]] = {
    "broker_url": broker_url,
    "broker_read_url": broker_url,
    "broker_write_url": broker_url,
    "result_backend": store_url,
}
#: Settings that, when unset, take the value of another setting.
_FALLBACKS: Final[Mapping[str, str]] = {
    "broker_url": "broker_host",
    "broker_read_url": "broker_url",
    "broker_write_url": "broker_url",
    "task_default_exchange": "task_default_queue",
    "task_default_routing_key": "task_default_queue",
    "timezone": "TIME_ZONE",
}


def canonical(name: str) -> str:
    """Return the current name of a setting.

    Names that are not old names are returned unchanged.
    """
    return OLD_NAMES.get(name, name)


class Settings(MutableMapping[str, Any]):
    """The configuration: a mapping whose keys are also attributes.

    ``version`` (int) increases with every change, so that callers can invalidate cached values. Names that are not
    settings can be set and read; reading one that was not set raises KeyError (AttributeError as an attribute).
    Reading raises ImproperlyConfigured for a value of the wrong type.
    """

    version: int

    def __init__(
        self,
        changes: Mapping[str, Any] | None = None,
        *,
        source: object = None,
        namespace: str | None = None,
        silent: bool = False,
        on_load: Callable[[], object] | None = None,
        on_loaded: Callable[[], object] | None = None,
    ) -> None:
        """``on_load`` is called before the object's import, ``on_loaded`` after it."""
        put = object.__setattr__
        put(self, "_changes", {canonical(k): v for k, v in (changes or {}).items()})
        put(self, "_layers", [])
        put(self, "_object", ConfigurationObject(source, namespace=namespace, silent=silent))
        put(self, "_cache", {})
        put(self, "_defaults", {})
        put(self, "_on_load", on_load)
        put(self, "_on_loaded", on_loaded)
        put(self, "version", 0)
        put(self, "_loading", threading.local())
        put(self, "_frozen", False)

    def use(self, source: object, *, namespace: str | None = None, silent: bool = False) -> None:
        """Use ``source``, a mapping, module or object, as the configuration object.

        An import path of one works too. ``namespace`` is the prefix of its names (None keeps the current one). With
        ``silent``, a source that cannot be imported counts as empty. The import happens at the first look-up. Raises
        ImproperlyConfigured after :meth:`freeze`.
        """
        if self._frozen:
            raise ImproperlyConfigured(f"the configuration object cannot be replaced: {_STARTED}")
        namespace = self._object.namespace if namespace is None else namespace
        object.__setattr__(self, "_object", ConfigurationObject(source, namespace=namespace, silent=silent))
        self._changed()

    def add_defaults(self, defaults: Mapping[str, Any]) -> None:
        """Insert ``defaults`` between the app's own values and those of the object.

        After :meth:`freeze`, raises ImproperlyConfigured for a default that would change a setting.
        """
        for name, value in defaults.items():
            if self._frozen and not self.is_set(name):
                self._check_unchanged(canonical(name), value)
        self._layers.insert(0, {canonical(k): v for k, v in defaults.items()})
        self._changed()

    def _changed(self) -> None:
        # Replace the dict instead of clearing it: another thread may be about to store an outdated value.
        object.__setattr__(self, "_cache", {})
        object.__setattr__(self, "version", self.version + 1)

    # -- reading ---------------------------------------------------------------------------------------------

    def __getitem__(self, name: str) -> Any:
        cache = self._cache
        try:
            return cache[name]
        except KeyError:
            pass
        value = self._look_up(canonical(name))
        complete = _COMPLETED.get(canonical(name))
        if complete is not None:
            value = complete(value, self)
        if value is MISSING:
            raise KeyError(name)
        cache[name] = value
        return value

    def _look_up(self, name: str) -> Any:
        setting = SETTINGS.get(name)
        value = self._explicit(name)
        if value is None or value is MISSING:
            other = _FALLBACKS.get(name)
            if other is not None:
                found = self.get(other)
                if found is not None:
                    return found
        if value is MISSING:
            return MISSING if setting is None else self._default(setting)
        if setting is None:
            return value
        try:
            return setting.convert(value)
        except ValueError as exc:
            raise ImproperlyConfigured(str(exc)) from exc

    def _explicit(self, name: str) -> Any:
        """Return the value that was set for ``name``, or MISSING."""
        setting = SETTINGS.get(name)
        if setting is not None and setting.env:
            text = os.environ.get(setting.env)
            if text:
                return text
        for layer in (self._changes, *self._layers):
            if name in layer:
                return layer[name]
        if not self._object.loaded:
            self._load()
        return self._object.get(name)

    def _default(self, setting: Setting) -> Any:
        """Return the declared default.

        Dicts and lists are copied once per app because programs modify them.
        """
        if not isinstance(setting.default, (dict, list)):
            return setting.default
        return self._defaults.setdefault(setting.name, deepcopy(setting.default))

    def _load(self) -> None:
        """Import the configuration object. Several threads may do this at the same time.

        Code that this import runs on the same thread (the hook, the object's own module) sees an empty object.
        """
        mine = self._loading
        if getattr(mine, "now", False):
            return
        mine.now = True
        try:
            if self._on_load is not None:
                self._on_load()
            self._object.load()
        finally:
            mine.now = False
            # Look-ups during the import saw an empty object; drop what they cached.
            object.__setattr__(self, "_cache", {})
        if self._on_loaded is not None:
            self._on_loaded()

    @property
    def loaded(self) -> bool:
        """Whether the configuration object has been imported."""
        return bool(self._object.loaded)

    def load(self) -> None:
        """Import the configuration object now, unless that has happened."""
        if not self.loaded:
            self._load()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}") from None

    def __iter__(self) -> Iterator[str]:
        yield from dict.fromkeys((*SETTINGS, *self._changes, *(k for layer in self._layers for k in layer)))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (canonical(name) in SETTINGS or self.is_set(name))

    def __repr__(self) -> str:
        return f"<Settings: {self.table()!r}>"

    # -- writing ---------------------------------------------------------------------------------------------

    def __setitem__(self, name: str, value: Any) -> None:
        name = canonical(name)
        if self._frozen:
            self._check_unchanged(name, value)
        self._changes[name] = value
        self._changed()

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _OWN:
            raise AttributeError(f"{name} is an internal attribute of the configuration")
        self[name] = value

    def __delitem__(self, name: str) -> None:
        name = canonical(name)
        if self._frozen and name in SETTINGS:
            raise ImproperlyConfigured(f"{name} cannot be deleted: {_STARTED}")
        del self._changes[name]
        self._changed()

    def freeze(self) -> None:
        """Forbid changes of settings from now on; a worker calls this at its start.

        Changing a setting's value then raises ImproperlyConfigured. Names that are not settings can still be set.
        """
        object.__setattr__(self, "_frozen", True)

    def _check_unchanged(self, name: str, value: Any) -> None:
        if name not in SETTINGS:
            return
        now = self[name]
        try:
            same = now == SETTINGS[name].convert(value)
        except ValueError:
            same = False
        if not same:
            raise ImproperlyConfigured(f"{name} stays {_censor(name, now)!r}: {_STARTED}")

    # -- views -----------------------------------------------------------------------------------------------

    def is_set(self, name: str) -> bool:
        """Return whether ``name`` was set by any source, even to None or to its default."""
        return self._explicit(canonical(name)) is not MISSING

    def first(self, *names: str) -> Any:
        """Return the first value among the settings ``names`` that is not None, or None."""
        return next((value for value in map(self.get, names) if value is not None), None)

    def without_defaults(self) -> dict[str, Any]:
        """Return the settings that were set, under their current names."""
        return {name: self[name] for name in self if self.is_set(name)}

    def table(self, with_defaults: bool = False, censored: bool = True) -> dict[str, Any]:
        """Return the settings as a dict; ``censored`` masks passwords and keys."""
        table = dict(self) if with_defaults else self.without_defaults()
        return {name: _censor(name, value) for name, value in table.items()} if censored else table

    def old_names(self) -> list[str]:
        """Return the old names that the configuration object uses, sorted."""
        if not self._object.loaded:
            self._load()
        names: list[str] = self._object.old_names
        return names

    def humanize(self, with_defaults: bool = False, censored: bool = True) -> str:
        """Return the table as lines of ``name: value``."""
        return "\n".join(f"{k}: {v!r}" for k, v in sorted(self.table(with_defaults, censored).items()))

    def check_supported(self) -> list[str]:
        """Return a warning (str) for each setting that was set and has no effect.

        Called when a worker starts. Raises one ImproperlyConfigured that names every refused setting and every
        value of the wrong type.
        """
        warnings, errors = _unsupported(self)
        if errors:
            raise ImproperlyConfigured("; ".join(errors))
        return warnings


def _unsupported(conf: Settings) -> tuple[list[str], list[str]]:
    """Return a warning per setting without effect, an error per invalid one.

    Refused settings are errors too.
    """
    warnings: list[str] = []
    errors: list[str] = []
    for name, setting in SETTINGS.items():
        if not conf.is_set(name):
            continue
        try:
            value = conf[name]
        except ImproperlyConfigured as exc:
            errors.append(str(exc))
            continue
        if setting.status is Status.WORKS or not setting.is_unsupported(value):
            continue
        if setting.status is Status.ACCEPTED:
            warnings.append(f"{name} has no effect: {setting.reason}")
        else:
            errors.append(f"{name}={_censor(name, value)!r} is not supported: {setting.reason}")
    return warnings, errors


def _censor(name: str, value: Any) -> Any:
    if isinstance(value, bytes):
        return _censor(name, value.decode("utf-8", "replace"))
    if isinstance(value, (str, int, float)) and not isinstance(value, bool) and _SECRET.search(name):
        return _MASK
    if isinstance(value, str):
        return _IN_QUERY.sub(rf"\1={_MASK}", _CREDENTIALS.sub(rf"\1:{_MASK}", value))
    if isinstance(value, Mapping):
        return {k: _censor(str(k), v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_censor(name, v) for v in value) if type(value) in (list, tuple) else value
    return value
