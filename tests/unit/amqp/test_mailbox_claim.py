"""A mailbox that another worker of the same node name holds."""

from __future__ import annotations

import pytest

from turbo.amqp.channel_calls import ChannelGone
from turbo.amqp.mailbox_claim import MailboxClaim

LOCKED = ChannelGone(405, "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'w@h.celery.pidbox'")


class Clock:
    """Seconds that a test moves on."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_it_is_named_once_with_the_way_out(caplog: pytest.LogCaptureFixture) -> None:
    claim = MailboxClaim("w@h", Clock())
    for _ in range(5):
        claim.refused(LOCKED)
    (line,) = [record.getMessage() for record in caplog.records]
    assert "Another worker named 'w@h'" in line and "-n" in line
    claim.declared(0)
    claim.declared(2)
    assert len(caplog.records) == 2, "another one came later"


def test_its_own_lost_connection_is_given_time(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    claim = MailboxClaim("w@h", clock)
    claim.was_read = True
    claim.refused(LOCKED)
    clock.now = 299
    claim.refused(LOCKED)
    assert not caplog.records
    clock.now = 301
    claim.refused(LOCKED)
    assert len(caplog.records) == 1


def test_other_refusals_say_nothing_of_another_worker(caplog: pytest.LogCaptureFixture) -> None:
    MailboxClaim("w@h", Clock()).refused(ChannelGone(403, "ACCESS_REFUSED"))
    assert not caplog.records
