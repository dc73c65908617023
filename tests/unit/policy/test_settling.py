"""The ack table: every ending under every combination of options, against the table as it is documented."""

from __future__ import annotations

import itertools

import pytest

from turbo.policy.settling import AckOptions, Ending, Verb, settle

BOTH = (False, True)
#: Ending -> the verb by (acks_on_failure, acks_on_timeout, reject_on_worker_lost), for late acks.
LATE = {
    Ending.SUCCESS: lambda _f, _t, _l: Verb.ACK,
    Ending.FAILURE: lambda failure, _t, _l: Verb.ACK if failure else Verb.REJECT,
    Ending.RETRY: lambda _f, _t, _l: Verb.ACK,
    Ending.IGNORE: lambda _f, _t, _l: Verb.ACK,
    Ending.REJECT: lambda _f, _t, _l: Verb.REJECT,
    Ending.REJECT_REQUEUE: lambda _f, _t, _l: Verb.REQUEUE,
    Ending.TIMEOUT: lambda _f, timeout, _l: Verb.ACK if timeout else Verb.REQUEUE,
    Ending.WORKER_LOST: lambda failure, _t, lost: Verb.REQUEUE if lost else Verb.ACK if failure else Verb.REJECT,
    Ending.REVOKED: lambda _f, _t, _l: Verb.ACK,
    Ending.UNKNOWN_TASK: lambda _f, _t, _l: Verb.REJECT,
    Ending.INVALID: lambda _f, _t, _l: Verb.REJECT,
    Ending.UNDECODABLE: lambda _f, _t, _l: Verb.REJECT,
}
NEVER_RAN = (Ending.REVOKED, Ending.UNKNOWN_TASK, Ending.INVALID, Ending.UNDECODABLE)


def test_the_table_has_every_ending() -> None:
    assert set(LATE) == set(Ending)


@pytest.mark.row("CN5", "CN8", "CN9")
@pytest.mark.parametrize("ending", list(Ending))
def test_late(ending: Ending) -> None:
    for failure, timeout, lost in itertools.product(BOTH, BOTH, BOTH):
        verb = settle(ending, AckOptions(True, failure, timeout, lost))
        assert verb is LATE[ending](failure, timeout, lost), (failure, timeout, lost)


@pytest.mark.row("CN4", "CN6")
@pytest.mark.parametrize("ending", [each for each in Ending if each not in NEVER_RAN])
def test_what_was_acknowledged_at_its_start_stays_so(ending: Ending) -> None:
    for failure, timeout, lost in itertools.product(BOTH, BOTH, BOTH):
        verb = settle(ending, AckOptions(False, failure, timeout, lost))
        assert verb is Verb.ACK


@pytest.mark.parametrize("ending", NEVER_RAN)
def test_what_never_ran_is_settled_the_same_early_or_late(ending: Ending) -> None:
    assert settle(ending, AckOptions(False)) is settle(ending, AckOptions(True)) is LATE[ending](True, True, False)


def test_by_default_everything_that_ran_is_acknowledged() -> None:
    ran = [each for each in Ending if each not in (*NEVER_RAN, Ending.REJECT, Ending.REJECT_REQUEUE)]
    assert {settle(each, AckOptions(True)) for each in ran} == {Verb.ACK}
