"""What workers tell each other when one starts.

That is revoked task ids and their logical clock.

The formats of Celery's ``hello`` command, of all its versions. Before it: ``pidbox``. After it: ``control.mingle``,
which asks, and ``control.inspect_commands``, which answers. Pure. It must never trust the sender: what cannot be a task
id is left out and counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from turbo.protocol.pidbox import PidboxError

#: Most bytes of a task's id: producers send it in a field of AMQP that has no more.
_LONGEST: Final = 255


@dataclass(frozen=True, slots=True)
class RevokedIds:
    """The revoked ids of another worker, the oldest first."""

    ids: list[str]
    #: How many others were no ids.
    skipped: int


def revoked_ids(value: object) -> RevokedIds:
    """Return the ids in a worker's list, or in the mapping of an older Celery.

    Celery 5.6 and older send a mapping with times. The times are ignored, because they are of another clock. Raises
    PidboxError if it is neither.
    """
    if not value:
        return RevokedIds([], 0)
    if not isinstance(value, (list, tuple, set, frozenset, dict)):
        raise PidboxError(f"the revoked ids must be a list, not {type(value).__name__}")
    ids = [task_id for task_id in value if _is_id(task_id)]
    return RevokedIds(ids, len(value) - len(ids))


def answer_parts(answer: object) -> tuple[RevokedIds, object]:
    """Return revoked ids and clock of an answer to ``hello``. Raises PidboxError."""
    if not isinstance(answer, dict):
        raise PidboxError(f"the answer must be a mapping, not {type(answer).__name__}")
    if "error" in answer:
        raise PidboxError(f"it answered {answer['error']!s:.200}")
    return revoked_ids(answer.get("revoked")), answer.get("clock")


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value.encode(errors="surrogatepass")) <= _LONGEST
