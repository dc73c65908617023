"""What is printed for each request to stop is what Celery's worker prints."""

from __future__ import annotations

import itertools

import pytest

from turbo.policy.shutdown_lines import AGAIN_TO_END_TASKS, AGAIN_TO_TURN_COLD, COLD, WAITING, WARM, printed
from turbo.policy.worker_lifecycle import Phase, Request, on_request

P, R = Phase, Request


@pytest.mark.parametrize(
    ("soft", "requests", "lines"),
    [
        (0, [R.TERM], [WARM]),
        (0, [R.TERM, R.TERM], [WARM, WARM]),
        (0, [R.INT], [AGAIN_TO_TURN_COLD, WARM]),
        (0, [R.INT, R.INT], [AGAIN_TO_TURN_COLD, WARM, AGAIN_TO_END_TASKS]),
        (0, [R.TERM, R.QUIT], [WARM, AGAIN_TO_END_TASKS, COLD]),
        (0, [R.TERM, R.DEADLINE], [WARM, COLD]),
        (0, [R.QUIT], [AGAIN_TO_END_TASKS, COLD]),
        (0, [R.QUIT, R.QUIT], [AGAIN_TO_END_TASKS, COLD, WAITING]),
        (9, [R.QUIT, R.DEADLINE], [AGAIN_TO_END_TASKS, COLD]),
        (9, [R.QUIT, R.QUIT], [AGAIN_TO_END_TASKS, WAITING, COLD]),
        (9, [R.QUIT, R.INT, R.DEADLINE], [AGAIN_TO_END_TASKS, WAITING, COLD]),
        (0, [R.REMOTE], []),
    ],
)
def test_the_lines_of_a_shutdown(soft: float, requests: list[Request], lines: list[str]) -> None:
    phase, found = P.RUNNING, []
    for request in requests:
        after, _code = on_request(phase, request, soft_timeout=soft)
        found += printed(phase, request, after)
        phase = after
    assert found == lines


def test_every_request_in_every_phase_has_lines_that_are_text() -> None:
    for phase, request, soft in itertools.product(P, R, (0.0, 5.0)):
        after, _code = on_request(phase, request, soft_timeout=soft)
        assert all("\n" not in line for line in printed(phase, request, after))
