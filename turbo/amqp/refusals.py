"""Records which queues the broker refuses, since when, and which are quorum.

Part of ``amqp.consume.link``, in the master; it outlives sessions and connections. ``amqp.declarer`` and
``amqp.consume.session`` report to it. It logs each refusal once and repeats the line at growing intervals. It must
never talk to the broker.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

from turbo.amqp.outages import one_line
from turbo.policy.outage import Outage

if TYPE_CHECKING:
    from collections.abc import Callable

    from turbo.amqp.channel_calls import ChannelGone

logger = logging.getLogger("turbo.amqp.topology")

_PRECONDITION_FAILED: Final = 406
#: What to do, by AMQP's reply code.
_HINTS: Final = {
    403: "give the user the permissions configure, write and read on it (rabbitmqctl set_permissions), or declare it "
    "beforehand and set no_declare; a queue in exclusive use has to be released by its consumer",
    404: "declare it, or let the worker do so (task_create_missing_queues, no no_declare); else its node may be down",
    405: "it belongs exclusively to another connection: close that, or use another queue",
    406: "delete it, or configure it as it was declared",
}
_OTHER_HINT: Final = "the broker's log has more; -Q chooses other queues"
#: RabbitMQ's name of a feature that 4.3 and later may forbid; using it then closes the whole connection.
_FORBIDS_TRANSIENT: Final = "transient_nonexcl_queues"
_TRANSIENT_HINT: Final = (
    "this broker does not allow transient queues that are not exclusive: make the queue durable or exclusive"
)
#: Most remarks to remember as logged.
_MOST_LOGGED: Final = 1000


class Refusals:
    """The refused queues of one link, and the types of the others."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` returns seconds."""
        self._clock = clock
        self._counts: dict[str, int] = {}
        self._outages: dict[str, Outage] = {}
        self._logged: set[tuple[str, str]] = set()
        #: By queue: what was not declared as configured. Logged if the queue is consumed nevertheless.
        self._differences: dict[str, list[str]] = {}
        #: By queue: whether it is a quorum queue, if the broker has said so.
        self.quorum: dict[str, bool] = {}

    @property
    def names(self) -> list[str]:
        """The names of the queues that are refused now."""
        return sorted(name for name, outage in self._outages.items() if outage.down)

    def is_quorum(self, *names: str) -> bool:
        """Whether the broker has said of all these queues that they are quorum queues.

        Returns False for no queue.
        """
        return bool(names) and all(self.quorum.get(name, False) for name in names)

    def count(self, name: str) -> int:
        """How often in a row a consumer of the queue was refused.

        Each refusal closed the channel.
        """
        return self._counts.get(name, 0)

    def consumer_refused(self, name: str, gone: ChannelGone) -> None:
        """Record that the broker closed the channel instead of starting a consumer."""
        self._counts[name] = self.count(name) + 1
        self.refused(name, "may not be consumed", gone)

    def declaring_ended_connection(self, name: str, gone: ChannelGone) -> None:
        """Record that the connection ended during a declaration.

        Ignored if the queue was not the reason.
        """
        if _FORBIDS_TRANSIENT in str(gone):
            self._counts[name] = self.count(name) + 1
            self.refused(name, "may not be declared", gone)

    def refused(self, name: str, what: str, gone: ChannelGone) -> None:
        """Record that the queue cannot be used now. ``what`` completes "queue 'x' ..."."""
        self._differences.pop(name, None)
        if self._outages.setdefault(name, Outage()).begin(name, self._clock()):
            logger.error(
                "queue %r %s, so this worker does not consume from it and tries again: %s; hint: %s",
                name,
                what,
                one_line(str(gone)),
                _TRANSIENT_HINT if _FORBIDS_TRANSIENT in str(gone) else _HINTS.get(gone.code, _OTHER_HINT),
            )

    def accepted(self, name: str) -> None:
        """Record that the queue is consumed."""
        for text in self._differences.pop(name, ()):
            self.remark(name, text)
        self._counts.pop(name, None)
        outage = self._outages.get(name)
        if outage is not None and (took := outage.end(name, self._clock())) is not None:
            logger.warning("queue %r is consumed now, after %.1f s", name, took)

    def used_as_it_is(self, name: str, what: str, gone: ChannelGone) -> None:
        """Record that ``what`` was not declared as configured.

        Logged if the queue is consumed nevertheless.
        """
        if gone.code == _PRECONDITION_FAILED:
            text = f"{what} exists with other properties than configured, and is used as it is: {gone}"
        else:
            text = f"{what} could not be declared, and the queue is consumed as it is: {gone}"
        self._differences.setdefault(name, []).append(text)

    def remark(self, name: str, text: str) -> None:
        """Log a remark about a queue, once."""
        if (name, text) in self._logged:
            return
        if len(self._logged) >= _MOST_LOGGED:
            self._logged.clear()
        self._logged.add((name, text))
        logger.error("queue %r: %s", name, one_line(text))
