"""Reads a queue's type from the broker's refusal of a declaration.

Pure: texts in, facts out.

Used by ``amqp.declarer`` in the master and by ``amqp.client.declaring`` in clients. AMQP has no request for the type of
a queue; RabbitMQ names it only when it refuses a declaration. It must never talk to the broker.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from turbo.amqp.topology import Queue

_REFUSED_ARGUMENT: Final = re.compile(r"invalid arg '(x-[\w-]+)' .*queue type \W*(?:rabbit_)?quorum")
_IS_QUORUM: Final = re.compile(r"inequivalent arg 'x-queue-type' .*current is (?:the value )?'quorum'")
#: Arguments for classic queues that a quorum queue works without.
_OPTIONAL: Final = frozenset({"x-max-priority", "x-queue-mode", "x-queue-version", "x-queue-master-locator"})


def refused_argument(text: str) -> str | None:
    """Return the optional argument that the broker refuses on a quorum queue, or None."""
    found = _REFUSED_ARGUMENT.search(text)
    return found[1] if found is not None and found[1] in _OPTIONAL else None


def is_quorum_by(text: str) -> bool:
    """Whether a refused declaration's text says that the queue is a quorum queue."""
    return _IS_QUORUM.search(text) is not None


def without_refused(queue: Queue, text: str) -> tuple[Queue, str] | None:
    """Return the queue without the argument that ``text`` refuses, and that argument.

    Returns None if there is none.
    """
    argument = refused_argument(text)
    if argument is None or argument not in queue.queue_arguments:
        return None
    kept = {name: value for name, value in queue.queue_arguments.items() if name != argument}
    return replace(queue, queue_arguments=kept), argument
