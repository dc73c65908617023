"""Run, hold or expired."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turbo.policy.admission import Admission, admit

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("eta", "expires", "decision"),
    [
        (None, None, Admission.RUN),
        (NOW + SECOND, None, Admission.HOLD),
        (NOW, None, Admission.RUN),
        (NOW - SECOND, None, Admission.RUN),
        (NOW + timedelta(microseconds=1), None, Admission.HOLD),
        (None, NOW + SECOND, Admission.RUN),
        (None, NOW, Admission.EXPIRED),
        (None, NOW - SECOND, Admission.EXPIRED),
        (NOW + SECOND, NOW - SECOND, Admission.EXPIRED),
        (NOW + 2 * SECOND, NOW + SECOND, Admission.HOLD),
        (NOW - SECOND, NOW + SECOND, Admission.RUN),
    ],
)
def test_table(eta: datetime | None, expires: datetime | None, decision: Admission) -> None:
    assert admit(NOW, eta=eta, expires=expires) is decision


ZONES = st.sampled_from([timezone(timedelta(minutes=15 * quarter)) for quarter in range(-48, 57)])
TIMES = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=ZONES)


@given(now=TIMES, eta=st.none() | TIMES, expires=st.none() | TIMES)
def test_never_early_and_never_after_its_expiry(now: datetime, eta: datetime | None, expires: datetime | None) -> None:
    decision = admit(now, eta=eta, expires=expires)
    assert (decision is Admission.EXPIRED) == (expires is not None and expires <= now)
    if decision is Admission.RUN and eta is not None:
        assert eta <= now
    if decision is Admission.HOLD:
        assert eta is not None and eta > now


@given(now=TIMES, later=st.timedeltas(timedelta(0), timedelta(days=1)), eta=TIMES, expires=st.none() | TIMES)
def test_waiting_never_undoes_a_decision(
    now: datetime, later: timedelta, eta: datetime, expires: datetime | None
) -> None:
    order = (Admission.HOLD, Admission.RUN, Admission.EXPIRED)
    first = admit(now, eta=eta, expires=expires)
    second = admit(now + later, eta=eta, expires=expires)
    assert order.index(second) >= order.index(first)
