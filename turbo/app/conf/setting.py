"""What a setting is: its type, its default, and how far turbo honours it.

The tables in ``app.conf.settings`` and ``app.conf.settings_of_results`` are made of these; ``app.conf.conf`` reads
them. Runs wherever an app exists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, unique
from typing import Final


@unique
class Status(Enum):
    """How far a setting is honoured."""

    WORKS = "works"
    #: Known, read from existing configurations, and without effect for the reason given.
    ACCEPTED = "accepted without effect"
    #: Ignoring it would change what the application does, so the worker refuses to start.
    REFUSED = "refused"


_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off", ""})


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. ``kind`` names its type: bool int float string bytes list tuple dict any.

    ``old_names`` are the upper-case names of the past, ``env`` an environment variable that wins over every
    other source, ``cli`` the option of the command that wins over that, ``harmless`` the values of a setting that does
    not work which ask for nothing that turbo does not do anyway.
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

    def is_missed(self, value: object) -> bool:
        """Whether ``value``, of a setting that does not work, asks for something that turbo does not do.

        Values that are all off are one, but a number is no None: it may be a limit where there was none.
        """
        if value == self.default or value in self.harmless:
            return False
        return bool(value or self.default) or (self.default is None and self.kind in ("int", "float"))

    def convert(self, value: object) -> object:
        """Return ``value`` as this setting's type; text (from the environment, say) is parsed.

        A ``timedelta`` becomes seconds where a number is due. Raises ValueError for what has no meaning here.
        """
        if value is None or self.kind == "any":
            return value
        convert = _CONVERT.get(self.kind)
        if convert is None:
            return value
        try:
            return convert(value)
        except (TypeError, ValueError) as exc:
            raise ValueError(f"{self.name}: {value!r} is no {self.kind}") from exc


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
    """A single text is a list of one, or of several joined by commas; other sequences pass as they are."""
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


#: Settings whose old names began with CELERY_, before the name itself.
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
    """The upper-case name that a setting had: ``old`` where given, else what Celery's old rule makes of
    ``name``.

    Before its names were lower-case, Celery prefixed tasks' and results' with CELERY_ and workers' with
    CELERYD_.
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
    """Declare a setting that does what its documentation says."""
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
    """Declare a setting that is read and has no effect, for ``reason``; named at start unless harmless."""
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
    """Declare a setting that stops the worker from starting, for ``reason``, unless it is off or harmless."""
    return Setting(name, kind, default, doc, Status.REFUSED, reason, _old(name, old), None, harmless)


def own(name: str, kind: str, default: object, doc: str, *, env: str | None = None, cli: str | None = None) -> Setting:
    """Declare a setting that Celery does not have, and which so has no old name."""
    return Setting(name, kind, default, doc, env=env, cli=cli)
