"""Failpoints: the syntax, the counting and the roles."""

from __future__ import annotations

import pytest

from turbo import failpoint


@pytest.fixture(autouse=True)
def no_failpoints_afterwards():
    yield
    failpoint.configure("")
    failpoint.set_role("")


def test_nothing_is_enabled_without_the_variable():
    assert failpoint.ENABLED is False
    failpoint.hit("anything")


def test_acts_on_the_named_pass_only():
    failpoint.configure("ring.x=raise@3")
    assert failpoint.ENABLED
    failpoint.hit("ring.x")
    failpoint.hit("ring.y")
    failpoint.hit("ring.x")
    with pytest.raises(failpoint.FailpointHit, match="ring.x"):
        failpoint.hit("ring.x")
    failpoint.hit("ring.x")


def test_roles_and_several_points():
    failpoint.configure("a=raise:child; b=sleep(0)@2:master;")
    failpoint.hit("a")
    failpoint.set_role("child")
    with pytest.raises(failpoint.FailpointHit):
        failpoint.hit("a")
    failpoint.set_role("child")
    with pytest.raises(failpoint.FailpointHit):
        failpoint.hit("a")


def test_several_points_of_one_site_count_the_same_passes():
    failpoint.configure("fork=errno(11)@2;fork=errno(12)@3")
    failpoint.hit("fork")
    for number in (11, 12):
        with pytest.raises(OSError, match="fork") as raised:
            failpoint.hit("fork")
        assert raised.value.errno == number
    failpoint.hit("fork")


@pytest.mark.parametrize(
    "text", ["a", "a=explode", "a=sleep", "a=kill9(3)", "a=raise@0", "a=exit(x)", "a=errno", "=raise"]
)
def test_what_cannot_be_understood_is_named(text):
    with pytest.raises(ValueError, match="TURBO_FAILPOINTS"):
        failpoint.configure(text)
