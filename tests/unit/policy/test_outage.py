"""When a line about an outage is due."""

from __future__ import annotations

import itertools

from turbo.policy.outage import CALM, FIRST_PAUSE, LONGEST_PAUSE, Outage


def test_one_line_for_all_links_then_at_rising_intervals() -> None:
    outage = Outage()
    due = [
        second
        for second in range(4000)
        for link in ("consuming", "publishing", "control")
        if outage.begin(link, float(second))
    ]
    pauses = [after - before for before, after in itertools.pairwise(due)]
    assert due[0] == 0
    assert pauses == [FIRST_PAUSE * 2**n for n in range(6)] + [LONGEST_PAUSE] * (len(pauses) - 6)
    assert outage.lasted(4000.0) == 4000.0


def test_it_is_over_when_the_last_link_is_well() -> None:
    outage = Outage()
    assert outage.begin("a", 1.0)
    assert not outage.begin("b", 2.0)
    assert outage.end("a", 3.0) is None
    assert outage.down == {"b"}
    assert outage.end("b", 5.0) == 4.0
    assert outage.end("b", 6.0) is None, "it was not down any more"
    assert outage.end("c", 6.0) is None, "it never was"


def test_a_broker_that_flaps_has_one_outage() -> None:
    outage = Outage()
    said = [(outage.begin("a", t), outage.end("a", t + 0.5)) for t in map(float, range(int(FIRST_PAUSE)))]
    assert said == [(True, 0.5), *[(False, None)] * 9]
    assert outage.begin("a", FIRST_PAUSE)


def test_after_a_calm_it_is_another_outage() -> None:
    outage = Outage()
    assert outage.begin("a", 0.0)
    assert outage.end("a", 1.0) == 1.0
    assert outage.begin("a", 1.1 + CALM)
    assert outage.lasted(2.1 + CALM) == 1.0
