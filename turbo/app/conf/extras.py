"""Checks that the configured stores, serializers and compressions are installed.

Called by the command before a worker starts, for all settings at once, and by a client's result reader before the first
message is sent. Without this check a missing package would lose results, or refuse every message, much later.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any, Final

from turbo.backends.url import missing_driver, store_kind
from turbo.exceptions import ImproperlyConfigured
from turbo.protocol import compression, content

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: Content type of a serializer -> the modules that it needs, and the extra that installs them.
_OF_SERIALIZERS: Final = {
    "application/x-yaml": (("yaml",), "yaml"),
    "application/x-msgpack": (("msgpack",), "msgpack"),
}
#: The kind of a result store -> its name, the modules that a worker needs for it, and the extra.
_OF_STORES: Final = {
    "redis": ("results in Redis", ("redis", "hiredis"), "redis"),
    "sql": ("results in a database", ("sqlalchemy",), "sql"),
}


def check(conf: Mapping[str, Any], *, stores: bool) -> None:
    """Raise one ImproperlyConfigured that names everything missing or unknown.

    It also names the extra to install. ``stores``: the worker stores results itself, so the result store's packages are
    required too.
    """
    problems: list[str] = []
    for setting in ("task_serializer", "result_serializer", "event_serializer"):
        problems += _serializer(setting, conf[setting])
    for setting in ("accept_content", "result_accept_content"):
        for name in _several(conf[setting]):
            problems += _serializer(setting, name)
    for setting in ("task_compression", "result_compression"):
        problems += _compression(setting, conf[setting])
    if stores:
        kind = store_kind(conf["result_backend"])
        if kind in _OF_STORES:
            problems += _missing("result_backend", *_OF_STORES[kind])
        if kind == "sql":
            problems += _driver(conf["result_backend"])
    if problems:
        raise ImproperlyConfigured("; ".join(dict.fromkeys(problems)))


def _serializer(setting: str, name: str | None) -> list[str]:
    if not name or name in ("raw", *content.TRUSTED):
        return []
    found = content.find(name)
    if found is not None:
        return _missing(setting, f"{name!r}", *_OF_SERIALIZERS.get(found.content_type, ((), "")))
    # Content types are only compared with those of messages; an unknown one simply never matches.
    return [] if "/" in name else [_unknown(setting, "serializer", name, content.SERIALIZERS)]


def _compression(setting: str, name: str | None) -> list[str]:
    if not name:
        return []
    if compression.mime_type(name) not in compression.ALIASES.values():
        return [_unknown(setting, "compression", name, compression.ALIASES)]
    if compression.is_installed(name):
        return []
    return [f"{setting}: {name!r} needs the extra: pip install 'turbo-worker[compression]'"]


def _missing(setting: str, what: str, modules: Iterable[str], extra: str) -> list[str]:
    absent = [name for name in modules if importlib.util.find_spec(name) is None]
    if not absent:
        return []
    return [f"{setting}: {what} needs {' and '.join(absent)}: pip install 'turbo-worker[{extra}]'"]


def _driver(url: str) -> list[str]:
    found = missing_driver(url)
    if found is None:
        return []
    module, example = found
    return [f"result_backend: the driver {module} is not installed: install it, or name another, such as {example}://"]


def _unknown(setting: str, kind: str, name: str, known: Iterable[str]) -> str:
    import difflib  # only a misspelt name needs its 0.2 MB

    near = difflib.get_close_matches(name, [each for each in known if "/" not in each], 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{setting} names an unknown {kind}: {name!r}{hint}"


def _several(names: Any) -> Iterable[str]:
    if not names:
        return ()
    return (names,) if isinstance(names, str) else names
