"""Canvas: chains, groups, chords, callbacks and error callbacks, nested and failing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tests.scenarios.rows.acks import EXPIRED, OWN, PAST
from tests.scenarios.scenario import ANYTHING, HARD, LOST, NOTHING, SOFT, End, Scenario, ended, failed, ok

if TYPE_CHECKING:
    from tests.scenarios.sending import Sending

CHORD = failed("celery.exceptions.ChordError", "Dependency", last_line=ANYTHING)


def canvas(name: str, build: Callable[[Sending], Any], ends: Mapping[str, End], *, smoke: bool = False,
           **more: Any) -> Scenario:  # fmt: skip
    """Return a scenario that sends the canvas that ``build`` returns."""
    return Scenario(name, lambda to: build(to).apply_async(), ends, canvas=True, smoke=smoke, **more)


def _links(to: Sending) -> None:
    to.send("one", "s.add", 1, 2, link=to.sig("link", "s.add", 10))
    to.send("two", "s.add", 1, 2, link=[to.sig("a", "s.add", 10), to.sig("b", "s.echo", "own", immutable=True)])
    nested = to.sig("next", "s.add", 10, link=to.sig("last", "s.add", 100))
    to.send("deep", "s.add", 1, 2, link=nested)


def _errbacks(to: Sending) -> None:
    to.send("old", "s.fail", "x", link_error=to.sig("told", "s.note_id"))
    to.send("new", "s.fail", "x", link_error=to.sig("", "s.note_error"))
    to.send("both", "s.fail", "x", link_error=[to.sig("told2", "s.note_id"), to.sig("", "s.note_error")])
    to.send("hard", "s.sleep", 60, time_limit=2, link_error=[to.sig("told3", "s.note_id"), to.sig("", "s.note_error")])
    to.send("lost", "s.die", link_error=[to.sig("told4", "s.note_id"), to.sig("", "s.note_error")])
    to.send("fine", "s.add", 1, 2, link_error=to.sig("untold", "s.note_id"))


def add(to: Sending, label: str, *numbers: int, **options: Any) -> Any:
    return to.sig(label, "s.add", *numbers, **options)


def pair(to: Sending, *labels: str) -> list[Any]:
    """Return calls of tasks that return 1, 2, 3 …"""
    return [add(to, label, 0, number) for number, label in enumerate(labels, 1)]


def broken_chord(to: Sending, bad: Any, *, on_error: bool = True) -> Any:
    body = to.sig("body", "s.total")
    if on_error:
        body.link_error(to.sig("", "s.note_error"))
        body.link_error(to.sig("told", "s.note_id"))
    return to.chord([*pair(to, "one"), bad], body)


def chain_of_groups(to: Sending) -> Any:
    # (1+2+3, 4+5) -> 15 -> (16, 17) -> 33
    first = to.group(to.steps(add(to, "a1", 1, 2), add(to, "a2", 3)), to.steps(add(to, "b1", 4, 5)))
    second = to.group(add(to, "c1", 1), add(to, "d1", 2))
    return to.steps(first, to.sig("sum", "s.total"), second, to.sig("all", "s.total"))


def chord_in_chord(to: Sending) -> Any:
    inner = to.chord(pair(to, "i1", "i2"), to.sig("inner", "s.total"))
    return to.chord([add(to, "o1", 1, 1), inner], to.sig("outer", "s.total"))


def broken_in_chord(to: Sending) -> Any:
    inner = to.chord([add(to, "one", 0, 1), to.sig("bad", "s.fail", "x")], to.sig("inner", "s.total"))
    return to.chord([add(to, "two", 1, 1), inner], to.sig("bystander", "s.total"))


def into_chord(to: Sending, first: Any) -> Any:
    middle = to.chord([add(to, "a", 1), add(to, "b", 2)], to.sig("body", "s.total"))
    return to.steps(first, middle, add(to, "last", 100))


def in_steps(to: Sending, middle: Any, last: Any = None) -> Any:
    return to.chain(add(to, "first", 1, 1), middle, last or add(to, "last", 1000))


def _replaced(name: str, by: str, ends: Mapping[str, End]) -> Scenario:
    return Scenario(name, lambda to: to.send("it", "s.replace", 1, by, link=add(to, "link", 1)), ends)


BROKEN: dict[str, End] = {"one": ok(1), "bad": failed(OWN), "body": CHORD, "told": ok("of body")}

ROWS = (
    Scenario("links", _links, {
        "one": ok(3), "link": ok(13), "two": ok(3), "a": ok(13), "b": ok(["own"]), "deep": ok(3), "next": ok(13),
        "last": ok(113),
    }, children={"one": ["link"], "deep": ["next"]}, smoke=True),
    Scenario("error_callbacks", _errbacks, {
        "old": failed(OWN), "told": ok("of old"), "new": failed(OWN), "both": failed(OWN), "told2": ok("of both"),
        "hard": HARD, "told3": ok("of hard"), "lost": LOST, "told4": ok("of lost"), "fine": ok(3),
    }, smoke=True),
    Scenario("chain", lambda to: to.chain(add(to, "a", 1, 2), add(to, "b", 10), add(to, "c", 100)),
             {"a": ok(3), "b": ok(13), "c": ok(113)}, children={"a": ["b"], "b": ["c"], "c": []}, smoke=True),
    Scenario("chain_immutable", lambda to: to.chain(add(to, "a", 1, 2), add(to, "b", 5, 5, immutable=True)),
             {"a": ok(3), "b": ok(10)}),
    Scenario("chain_breaks",
             lambda to: to.chain(add(to, "a", 1, 2), to.sig("b", "s.fail", immutable=False), add(to, "c", 1)),
             {"a": ok(3), "b": failed(OWN), "c": failed(OWN)}, smoke=True),
    Scenario("chain_breaks_by_hard_limit",
             lambda to: to.chain(to.sig("a", "s.sleep", 60, time_limit=2), add(to, "b", 1), add(to, "c", 1)),
             {"a": HARD, "b": HARD, "c": HARD}),
    Scenario("chain_breaks_by_loss", lambda to: to.chain(to.sig("a", "s.die"), add(to, "b", 1)),
             {"a": LOST, "b": LOST}),
    Scenario("chain_retries", lambda to: to.chain(to.sig("a", "s.retry", 1), to.sig("b", "s.echo")),
             {"a": ok("after 1"), "b": ok(["after 1"])}, children={"a": ["b"]}),
    Scenario("chain_stops", lambda to: to.chain(to.sig("a", "s.ignore"), add(to, "b", 1)), {"a": NOTHING}),
    canvas("group", lambda to: to.group(pair(to, "a", "b", "c")), {"a": ok(1), "b": ok(2), "c": ok(3)}, smoke=True),
    canvas("group_reports", lambda to: to.group([to.sig("a", "s.report"), to.sig("b", "s.report")]),
           {"a": ok(), "b": ok()}),
    canvas("chord_reports", lambda to: to.chord(
        [to.sig("a", "s.report"), to.sig("b", "s.report")], to.sig("body", "s.size")),
           {"a": ok(), "b": ok(), "body": ok(2)}),
    canvas("chord", lambda to: to.chord(pair(to, "a", "b", "c"), to.sig("body", "s.total", kwargs={"extra": 10})),
           {"a": ok(1), "b": ok(2), "c": ok(3), "body": ok(16)}, smoke=True),
    canvas("chord_of_one", lambda to: to.chord(pair(to, "a"), to.sig("body", "s.total")), {"a": ok(1), "body": ok(1)}),
    canvas("chord_keeps_order", lambda to: to.chord(
        [to.sig("a", "s.retry", 1), add(to, "b", 0, 2), to.sig("c", "s.add", 0, 3, countdown=0.3)],
        to.sig("body", "s.echo")), {"body": ok([["after 1", 2, 3]])}),
    canvas("chord_then_more", lambda to: to.steps(
        to.chord(pair(to, "a", "b"), to.sig("body", "s.total")), add(to, "next", 10)), {"body": ok(3), "next": ok(13)}),
    canvas("chord_with_link", lambda to: to.chord(
        pair(to, "a", "b"), to.sig("body", "s.total", link=add(to, "link", 1))), {"body": ok(3), "link": ok(4)}),
    canvas("chord_ignoring_results", lambda to: to.chord(
        [to.sig("a", "s.ignored_add", 1, 1), to.sig("b", "s.ignored_add", 2, 2)], to.sig("body", "s.total")),
        {"a": NOTHING, "b": NOTHING, "body": ok(6)}, smoke=True),
    canvas("chain_of_groups_of_chains", chain_of_groups, {
        "a1": ok(3), "a2": ok(6), "b1": ok(9), "sum": ok(15), "c1": ok(16), "d1": ok(17), "all": ok(33)}, smoke=True),
    canvas("chord_in_chord", chord_in_chord,
           {"i1": ok(1), "i2": ok(2), "inner": ok(3), "o1": ok(2), "outer": ok(5)}, smoke=True),
    canvas("group_in_group", lambda to: to.chord(
        to.group([add(to, "a", 0, 1), to.group(pair(to, "b", "c"))]), to.sig("body", "s.echo")), {"body": ok()}),
    canvas("chord_breaks", lambda to: broken_chord(to, to.sig("bad", "s.fail", "x")), BROKEN, smoke=True),
    canvas("chord_breaks_unheard", lambda to: broken_chord(to, to.sig("bad", "s.fail", "x"), on_error=False),
           {"bad": failed(OWN), "body": CHORD}),
    canvas("chord_breaks_by_soft_limit", lambda to: broken_chord(to, to.sig("bad", "s.sleep", 60, soft_time_limit=1.5)),
           {**BROKEN, "bad": SOFT}),
    canvas("chord_breaks_by_hard_limit", lambda to: broken_chord(to, to.sig("bad", "s.sleep", 60, time_limit=2)),
           {**BROKEN, "bad": HARD}, smoke=True),
    canvas("chord_breaks_by_loss", lambda to: broken_chord(to, to.sig("bad", "s.die")), {**BROKEN, "bad": LOST}),
    canvas("chord_survives_loss", lambda to: to.chord(
        [add(to, "a", 0, 1), to.sig("b", "s.stubborn_die")], to.sig("body", "s.echo")),
        {"b": ok("again"), "body": ok([[1, "again"]])}),
    canvas("chord_body_breaks", lambda to: to.chord(
        pair(to, "a", "b"), to.sig("body", "s.late_fail", link_error=to.sig("told", "s.note_id"))),
        {"body": failed(OWN), "told": ok("of body")}),
    canvas("chord_breaks_in_a_chain", lambda to: to.steps(
        broken_chord(to, to.sig("bad", "s.fail", "x")), add(to, "next", 1)), {"bad": failed(OWN), "body": CHORD}),
    canvas("chord_in_a_chain", lambda to: into_chord(to, add(to, "first", 1, 1)),
           {"first": ok(2), "a": ok(3), "b": ok(4), "body": ok(7), "last": ok(107)}),
    canvas("chain_breaks_before_a_chord", lambda to: into_chord(to, to.sig("bad", "s.fail", "x")),
           {"bad": failed(OWN), "body": failed(OWN), "last": failed(OWN)}),
    canvas("chord_of_chains_breaks", lambda to: broken_chord(
        to, to.steps(to.sig("bad", "s.fail", "x"), add(to, "end", 1))), {**BROKEN, "end": failed(OWN)}),
    canvas("chord_of_a_chain_into_a_group", lambda to: to.chord(
        [add(to, "a", 0, 1), to.steps(add(to, "b", 1, 1), to.group(add(to, "c", 1), add(to, "d", 2)))],
        to.sig("body", "s.echo")), {"body": ok()}),
    canvas("chord_into_a_group", lambda to: to.chord(
        pair(to, "a", "b"), to.group(to.sig("c", "s.total"), to.sig("d", "s.echo"))), {"c": ok(3), "d": ok([[1, 2]])}),
    canvas("chord_breaks_before_a_group", lambda to: to.chord(
        [add(to, "a", 0, 1), to.sig("bad", "s.fail", "x")],
        to.group(to.sig("c", "s.total"), to.sig("d", "s.echo", link_error=to.sig("told", "s.note_id")))),
        {"bad": failed(OWN), "c": failed(OWN), "d": failed(OWN), "told": ok("of d")}),
    canvas("chord_breaks_before_a_chain", lambda to: to.chord(
        [add(to, "a", 0, 1), to.sig("bad", "s.fail", "x")],
        to.steps(to.sig("bystander", "s.total"), add(to, "b", 1))), {"bad": failed(OWN), "b": CHORD}),
    canvas("chord_breaks_in_a_chord", broken_in_chord, {"bad": failed(OWN), "inner": CHORD}),
    canvas("chord_breaks_by_a_reject", lambda to: broken_chord(
        to, to.sig("bad", "s.late_reject", False, link_error=to.sig("of_it", "s.note_id"))),
        {**BROKEN, "bad": ended("celery.exceptions.Reject"), "of_it": ok("of bad")}, dead=("bad",)),
    canvas("chord_breaks_by_retries", lambda to: broken_chord(to, to.sig("bad", "s.exhaust", True)), BROKEN),
    canvas("chord_breaks_by_a_result", lambda to: broken_chord(to, to.sig("bad", "s.unserialisable")),
           {"one": ok(1), "body": CHORD, "told": ok("of body")}),
    _replaced("replaced", "task", {"it": ok(101), "link": ok(102)}),
    _replaced("replaced_twice", "twice", {"it": ok(102), "link": ok(103)}),
    _replaced("replaced_by_a_failure", "failure", {"it": failed(OWN, "replaced")}),
    _replaced("replaced_by_a_chain", "chain", {"it": ok(1101), "link": ok(1102)}),
    _replaced("replaced_by_a_group", "group", {"it": ok([101, 201])}),
    _replaced("replaced_by_a_chord", "chord", {"it": ok(302), "link": ok(303)}),
    Scenario("replaced_in_a_chain", lambda to: in_steps(to, to.sig("it", "s.replace")),
             {"first": ok(2), "it": ok(102), "last": ok(1102)}, smoke=True),
    Scenario("replaced_by_a_chain_in_a_chain", lambda to: in_steps(to, to.sig("it", "s.replace", "chain")),
             {"it": ok(1102), "last": ok(2102)}),
    Scenario("replaced_by_a_group_in_a_chain",
             lambda to: in_steps(to, to.sig("it", "s.replace", "group"), to.sig("last", "s.total")),
             {"last": ok(304)}),
    canvas("replaced_in_a_chord", lambda to: to.chord(
        [add(to, "a", 0, 1), to.sig("b", "s.replace", 2)], to.sig("body", "s.total")),
        {"b": ok(102), "body": ok(103)}, smoke=True),
    canvas("replaced_by_a_chain_in_a_chord", lambda to: to.chord(
        [add(to, "a", 0, 1), to.sig("b", "s.replace", 2, "chain")], to.sig("body", "s.total")), {"body": ok(1103)}),
    canvas("replaced_by_a_failure_in_a_chord", lambda to: broken_chord(to, to.sig("bad", "s.replace", 1, "failure")),
           BROKEN),
    canvas("chord_extended", lambda to: to.chord(
        [add(to, "a", 0, 1), to.sig("b", "s.extend", 2)], to.sig("body", "s.total")), {"b": ok(2), "body": ok(15)}),
    canvas("chord_with_an_expired_task", lambda to: to.chord(
        [add(to, "a", 0, 1), to.sig("b", "s.add", 1, 2, headers={"expires": PAST})], to.sig("body", "s.total")),
        {"b": EXPIRED, "body": CHORD}),
    canvas("chord_with_an_unknown_task", lambda to: to.chord(
        [add(to, "a", 0, 1), to.sig("b", "s.nobody")], to.sig("body", "s.total")),
        {"a": ok(1), "b": ended("celery.exceptions.NotRegistered")}, dead=("b",)),
    canvas("map", lambda to: to.canvas.xmap(to.sig("", "s.total"), [[1, 2], [3]], app=to.app).set(task_id=to.id("it")),
           {"it": ok([3, 3])}, smoke=True),
    canvas("starmap", lambda to: to.canvas.xstarmap(
        to.sig("", "s.add"), [[1, 2], [3, 4]], app=to.app).set(task_id=to.id("it")), {"it": ok([3, 7])}),
    canvas("chunks", lambda to: to.chord(
        to.canvas.chunks(to.sig("", "s.add"), [[1, 2], [3, 4], [5, 6]], 2, app=to.app).group(),
        to.sig("body", "s.echo")),
        {"body": ok([[[3, 7], [11]]])}, smoke=True),
)  # fmt: skip
