"""Decides how often, and when, a message is published again.

It was not confirmed before a connection was lost.

Used by the client publisher. Pure: it returns the waits and must never sleep. The names are those of the setting
``task_publish_retry_policy``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True, slots=True)
class PublishRetry:
    """A policy.

    Times are in seconds; ``max_retries=None`` tries for ever, 0 only once.
    """

    max_retries: int | None = 3
    interval_start: float = 0.0
    interval_step: float = 0.2
    interval_max: float = 1.0

    @classmethod
    def from_setting(cls, policy: Mapping[str, object]) -> PublishRetry:
        """Read the setting.

        What it leaves out has the default, and names of other kinds are ignored. Raises ValueError for a value that is
        no number.
        """
        retries = policy.get("max_retries", 3)
        times = {
            name: _seconds(name, policy[name])
            for name in ("interval_start", "interval_step", "interval_max")
            if policy.get(name) is not None
        }
        return cls(None if retries is None else int(_seconds("max_retries", retries)), **times)

    def waits(self) -> Iterator[float]:
        """Yield the seconds to wait before each repetition."""
        done = 0
        while self.max_retries is None or done < self.max_retries:
            yield min(self.interval_start + done * self.interval_step, self.interval_max)
            done += 1


#: Publish once and report the failure.
ONCE = PublishRetry(max_retries=0)


def _seconds(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        raise ValueError(f"task_publish_retry_policy: {name}={value!r} is no number of seconds or times")
    return value
