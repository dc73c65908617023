"""The declaration of one setting: type, default, and whether turbo supports it.

The tables in ``app.conf.settings`` and ``app.conf.settings_of_results`` consist of these; ``app.conf.conf`` reads them.
Runs wherever an app exists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, unique
from typing import Final


@unique
class Status(Enum):
    """Whether turbo supports a setting."""

    WORKS = "works"
    #: Accepted from existing configurations, without effect for the reason given.
    ACCEPTED = "accepted without effect"
    #: Ignoring it would change what the application does, so the worker refuses to start.
    REFUSED = "refused"


_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off", ""})


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting.

    ``kind`` names its type: bool int float string bytes list tuple dict any. ``old_names`` are its former upper-case
    names. ``env`` is an environment variable that overrides every other source except ``cli``, the option of the
    command. ``harmless`` lists values of an unsupported setting that describe what turbo does anyway.
    """

    name: str
    kind: str
    default: object
    doc: str
    status: Status = Status.WORKS
    reason: str = ""
    old_names: tuple[str, ...] = ()
    env: str | None = None
    harmless: tuple[object, ...] = ()
    cli: str | None = None

    def is_unsupported(self, value: object) -> bool:
        """Whether an unsupported setting asks for what turbo does not do.

        All falsy values count as "off", except that a number differs from a default of None: even 0 may be a limit.
        """
        if value == self.default or value in self.harmless:
            return False
        return bool(value or self.default) or (self.default is None and self.kind in ("int", "float"))

    def convert(self, value: object) -> object:
        """Return ``value`` converted to this setting's type.

        Text, as from the environment, is parsed. A ``timedelta`` becomes seconds in a float setting. Raises
        ValueError for a value that cannot be converted.
        """
        if value is None or self.kind == "any":
            return value
        convert = _CONVERT.get(self.kind)
        if convert is None:
            return value
        try:
            return convert(value)
        except (TypeError, ValueError) as exc:
            raise ValueError(f"{self.name}: {value!r} is not a valid {self.kind}") from exc


def _bool(value: object) -> object:
    if isinstance(value, str):
        text = value.strip().lower()
        if text in _TRUE:
            return True
        if text in _FALSE:
            return False
        raise ValueError(value)
    return bool(value)


def _int(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise TypeError(value)
    return int(value)


def _float(value: object) -> object:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, str):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(value)
    return value


def _sequence(value: object) -> object:
    """Split text at commas; turn any other sequence or set into a tuple."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if isinstance(value, (Sequence, set, frozenset)):
        return tuple(value)
    raise TypeError(value)


def _dict(value: object) -> object:
    if not isinstance(value, Mapping):
        raise TypeError(value)
    return value


_CONVERT: Final = {
    "bool": _bool,
    "int": _int,
    "float": _float,
    "list": _sequence,
    "tuple": _sequence,
    "dict": _dict,
}


#: Prefixes of settings whose old name is CELERY_ followed by the upper-case name.
_OLD_PREFIX: Final = (
    "result_",
    "event_",
    "cache_",
    "redis_",
    "mongodb_",
    "security_",
    "couchbase_",
    "arangodb_",
    "elasticsearch_",
)


def _old(name: str, old: str | None) -> tuple[str, ...]:
    """Return a setting's old names: ``old``, or by default that of Celery's rule.

    Before Celery's names were lower-case, settings of tasks and results began with CELERY_ and those of workers with
    CELERYD_. ``old=""`` means that there is no old name.
    """
    if old is not None:
        return (old,) if old else ()
    if name.startswith("task_"):
        return ("CELERY_" + name[5:].upper(),)
    if name.startswith("worker_"):
        return ("CELERYD_" + name[7:].upper(),)
    if name.startswith(_OLD_PREFIX):
        return ("CELERY_" + name.upper(),)
    return (name.upper(),)


def works(
    name: str,
    kind: str,
    default: object,
    doc: str,
    *,
    old: str | None = None,
    env: str | None = None,
    cli: str | None = None,
) -> Setting:
    """Declare a setting that turbo supports."""
    return Setting(name, kind, default, doc, old_names=_old(name, old), env=env, cli=cli)


def accepted(
    name: str,
    kind: str,
    default: object,
    doc: str,
    reason: str,
    *,
    old: str | None = None,
    cli: str | None = None,
    harmless: tuple[object, ...] = (),
) -> Setting:
    """Declare a setting without effect, for ``reason``.

    The worker warns at start unless its value is harmless.
    """
    return Setting(name, kind, default, doc, Status.ACCEPTED, reason, _old(name, old), harmless=harmless, cli=cli)


def refused(
    name: str,
    kind: str,
    default: object,
    doc: str,
    reason: str,
    *,
    old: str | None = None,
    harmless: tuple[object, ...] = (),
) -> Setting:
    """Declare a setting that prevents the worker's start, for ``reason``.

    The worker starts if its value is off or harmless.
    """
    return Setting(name, kind, default, doc, Status.REFUSED, reason, _old(name, old), None, harmless)


def own(name: str, kind: str, default: object, doc: str, *, env: str | None = None, cli: str | None = None) -> Setting:
    """Declare a setting that Celery does not have; it has no old name."""
    return Setting(name, kind, default, doc, env=env, cli=cli)
