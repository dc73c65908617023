"""States and their order, beside Celery's own."""

from __future__ import annotations

import importlib
import itertools

import pytest

from turbo import states

ANY = ("SUCCESS", "FAILURE", "PROGRESS", "REVOKED", "STARTED", "RECEIVED", "REJECTED", "RETRY", "PENDING", "ABORTED")


@pytest.mark.row("ST7", "ST8")
def test_celerys_order_and_sets() -> None:
    celerys = importlib.import_module("celery.states")
    for one, other in itertools.product(ANY, repeat=2):
        ours, theirs = states.state(one), celerys.state(one)
        assert (ours > other, ours >= other, ours < other, ours <= other) == (
            theirs > other, theirs >= other, theirs < other, theirs <= other,
        ), (one, other)  # fmt: skip
        assert states.precedence(one) == celerys.precedence(one)
    for name in ("READY_STATES", "UNREADY_STATES", "EXCEPTION_STATES", "PROPAGATE_STATES", "ALL_STATES"):
        assert getattr(states, name) == getattr(celerys, name)
    assert states.state("SUCCESS") == "SUCCESS"
