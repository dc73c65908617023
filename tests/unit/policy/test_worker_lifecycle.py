"""What each request to end or restart makes of the worker's phase."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turbo.policy.worker_lifecycle import Phase, Request, on_request, restarts

R, P = Request, Phase


@pytest.mark.parametrize(
    ("phase", "request_", "soft", "remap", "after"),
    [
        (P.RUNNING, R.TERM, 0, False, (P.WARM, 0)),
        (P.STARTING, R.TERM, 0, False, (P.WARM, 0)),
        (P.RUNNING, R.TERM, 0, True, (P.COLD, 1)),
        (P.RUNNING, R.TERM, 5, True, (P.SOFT, 1)),
        (P.RUNNING, R.INT, 0, False, (P.WARM, 1)),
        (P.RUNNING, R.QUIT, 0, False, (P.COLD, 1)),
        (P.RUNNING, R.QUIT, 5, False, (P.SOFT, 1)),
        (P.RUNNING, R.QUIT, 0.5, False, (P.SOFT, 1)),
        (P.WARM, R.TERM, 0, False, (P.WARM, 0)),
        (P.WARM, R.INT, 0, False, (P.COLD, 1)),
        (P.WARM, R.QUIT, 0, False, (P.COLD, 1)),
        (P.WARM, R.QUIT, 5, False, (P.SOFT, 1)),
        (P.WARM, R.DEADLINE, 0, False, (P.COLD, 1)),
        (P.SOFT, R.TERM, 5, False, (P.SOFT, 1)),
        (P.SOFT, R.INT, 5, False, (P.COLD, 1)),
        (P.SOFT, R.QUIT, 5, False, (P.COLD, 1)),
        (P.SOFT, R.DEADLINE, 5, False, (P.COLD, 1)),
        (P.COLD, R.TERM, 0, False, (P.COLD, 1)),
        (P.STOPPED, R.INT, 0, False, (P.STOPPED, 1)),
    ],
)
def test_requests(phase: Phase, request_: Request, soft: float, remap: bool, after: tuple[Phase, int]) -> None:
    assert on_request(phase, request_, soft_timeout=soft, remap_term=remap) == after


@given(
    requests=st.lists(st.sampled_from(Request), max_size=12),
    soft=st.sampled_from([0.0, 5.0]),
    remap=st.booleans(),
)
def test_a_shutdown_never_goes_back(requests: list[Request], soft: float, remap: bool) -> None:
    phase = Phase.RUNNING
    for request in requests:
        after, code = on_request(phase, request, soft_timeout=soft, remap_term=remap)
        assert after >= phase and after is not Phase.RUNNING and code in (0, 1)
        phase = after
    assert on_request(phase, Request.DEADLINE, soft_timeout=soft)[0] >= Phase.COLD


@given(phase=st.sampled_from(Phase), soft=st.sampled_from([0.0, 5.0]))
def test_two_interrupts_are_always_enough(phase: Phase, soft: float) -> None:
    for _ in range(2):
        phase, _code = on_request(phase, Request.INT, soft_timeout=soft)
    assert phase >= Phase.COLD


def test_hup_asks_for_another_run_unless_an_end_is_asked_for() -> None:
    assert on_request(Phase.RUNNING, Request.HUP, soft_timeout=0, remap_term=True) == (Phase.WARM, 0)
    assert restarts(Phase.RUNNING, Request.HUP, restarting=False)
    assert restarts(Phase.STARTING, Request.HUP, restarting=False)
    assert not restarts(Phase.WARM, Request.HUP, restarting=False), "it was told to end before"
    assert restarts(Phase.WARM, Request.HUP, restarting=True)
    assert restarts(Phase.WARM, Request.DEADLINE, restarting=True), "a wait that was too long changes nothing"
    for request in (Request.TERM, Request.INT, Request.QUIT, Request.REMOTE):
        assert not restarts(Phase.WARM, request, restarting=True)
