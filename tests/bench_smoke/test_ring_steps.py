"""The measure of the ring's steps, which needs no server."""

from __future__ import annotations

import pytest

from bench.ring_steps import measure


def test_every_step_is_measured() -> None:
    times = measure(records=32, size=600, batch=16)
    assert 0 < times.stage_commit <= times.mean_stage_commit
    assert min(times.claim, times.emit_signal, times.drain) > 0
    with pytest.raises(ValueError, match="fit"):
        measure(batch=1000)
