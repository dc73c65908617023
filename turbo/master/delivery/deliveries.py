"""Passes what the consume connection receives to the intake.

Runs in the master, between ``amqp.consume.link``, which is made with it, and ``master.delivery.intake``, which is made
later and names itself to it. So the link exists before every part that settles through it. It must never keep or change
anything: nothing is received before the link is started, and by then there is an intake.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from turbo.amqp.consume.session import DeliverySink
    from turbo.amqp.frame_splitter import RawDelivery


class Deliveries:
    """The sink of the consume connection; another sink, named by :meth:`pass_to`, takes everything."""

    __slots__ = ("_sink",)

    def pass_to(self, sink: DeliverySink) -> None:
        """Pass everything to ``sink`` from now on."""
        self._sink = sink

    def on_deliveries(self, epoch: int, queue: str, batch: list[RawDelivery]) -> None:
        """Pass a batch on."""
        self._sink.on_deliveries(epoch, queue, batch)

    def on_session_up(self, epoch: int) -> None:
        """Pass the beginning of a session on."""
        self._sink.on_session_up(epoch)

    def on_session_lost(self, epoch: int, reason: str) -> None:
        """Pass the end of a session on."""
        self._sink.on_session_lost(epoch, reason)

    def on_consumer_cancelled(self, epoch: int, queue: str, consumer_tag: str) -> list[int]:
        """Pass the end of a consumer on; return the tags of its unsettled messages."""
        return self._sink.on_consumer_cancelled(epoch, queue, consumer_tag)

    def on_lease_copies(self, epoch: int, batch: list[RawDelivery]) -> None:
        """Pass copies from a lease queue on."""
        self._sink.on_lease_copies(epoch, batch)
