"""The two tables of finishing, over all combinations of their facts, against the promises that users are given."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import pytest

from turbo.policy.finishing import (
    CHILD_DEATH,
    FINISHING,
    NO_FACTS,
    Death,
    Facts,
    Fate,
    Question,
    Step,
    after_child_death,
    next_step,
    overridden,
    verb_of_lost_task,
)
from turbo.policy.settling import Verb

BOTH = (False, True)
SETTLING = {Verb.ACK, Verb.REJECT, Verb.REQUEUE}


@dataclass(frozen=True)
class Document:
    guard: bool


DOCUMENTS = (None, Document(guard=False), Document(guard=True))


def test_a_delivery_has_no_facts_at_first() -> None:
    new: Facts[Any] = Facts()
    assert all(not getattr(new, field.name) for field in fields(Facts))
    assert all(getattr(NO_FACTS, field.name) == getattr(new, field.name) for field in fields(Facts))


def _answer(_stored: bool) -> None:
    raise AssertionError("a table answers nobody")


QUESTIONS = (None, *(Question(Verb.ACK, document, _answer) for document in DOCUMENTS))


def every_fact() -> Iterator[tuple[Facts[Any], bool]]:
    """Every combination that differs for the table, and whether the message was acknowledged."""
    for unconfirmed, unsent, permanent, failed, store_failed, acked in itertools.product(
        (0, 2), ("", "refused"), BOTH, BOTH, BOTH, BOTH
    ):
        for verb, document, question in itertools.product((None, *SETTLING), DOCUMENTS, QUESTIONS):
            yield (
                Facts(
                    unconfirmed=unconfirmed,
                    unsent=unsent,
                    permanent=permanent,
                    failed=failed,
                    verb=verb,
                    document=document,
                    question=question,
                    store_failed=store_failed,
                ),
                acked,
            )


def expected(facts: Facts[Any], acked: bool) -> Step:
    """The same as nested conditions instead of a table."""
    if facts.unconfirmed:
        return Step.WAIT
    again = not acked and not facts.permanent
    if facts.verb is None:
        if facts.question is None:
            return Step.WAIT
        asked = facts.question.document
        if facts.unsent and (again or asked is None or not asked.guard):
            return Step.ANSWER_NOT_STORED
        return Step.ANSWER_STORED if asked is None else Step.STORE_QUESTION
    own_failure = facts.failed or (facts.document is not None and facts.document.guard)
    if facts.unsent and again:
        return Step.REQUEUE
    if facts.unsent and not own_failure:
        return Step.FAIL_UNSENT
    if facts.store_failed:
        if facts.failed or facts.verb is not Verb.ACK:
            return Step.SETTLE
        return Step.FAIL_UNSTORED if facts.permanent else Step.REQUEUE
    return Step.SETTLE if facts.document is None else Step.STORE


def test_every_combination_has_the_step_that_is_documented() -> None:
    count = 0
    for facts, acked in every_fact():
        assert next_step(facts, acked=acked) is expected(facts, acked), (facts, acked)
        count += 1
    assert count == 64 * 4 * 3 * 4


def test_the_step_is_that_of_the_first_row_that_holds() -> None:
    for facts, acked in every_fact():
        first = next(row for row in FINISHING if row.holds(facts, acked))
        assert next_step(facts, acked=acked) is first.step, (facts, acked)


def test_every_row_is_the_first_that_holds_for_some_facts() -> None:
    taken = {
        next(index for index, row in enumerate(FINISHING) if row.holds(facts, acked)) for facts, acked in every_fact()
    }
    assert taken == set(range(len(FINISHING)))


@pytest.mark.row("CN5")
def test_nothing_is_settled_before_confirms_and_result() -> None:
    for facts, acked in every_fact():
        step = next_step(facts, acked=acked)
        if step is Step.SETTLE:
            assert not facts.unconfirmed
            assert facts.verb is not None
            assert facts.document is None or facts.store_failed, "settled with a document that was never stored"
            # A refused message is never hidden behind an acknowledgement of success.
            assert not facts.unsent or facts.failed or facts.store_failed, "acknowledged although a message was refused"


def test_what_cannot_run_again_is_never_put_back_for_a_refused_message() -> None:
    for facts, acked in every_fact():
        if facts.unsent and (acked or facts.permanent) and not facts.store_failed:
            assert next_step(facts, acked=acked) is not Step.REQUEUE


def test_only_a_known_outcome_is_settled_and_only_a_running_task_is_answered() -> None:
    for facts, acked in every_fact():
        step = next_step(facts, acked=acked)
        answers = step in (Step.ANSWER_STORED, Step.ANSWER_NOT_STORED, Step.STORE_QUESTION)
        assert not answers or (facts.verb is None and facts.question is not None)
        assert facts.verb is not None or answers or step is Step.WAIT


@pytest.mark.parametrize("verb", sorted(SETTLING))
def test_a_delivery_of_which_nothing_else_is_known_is_settled_at_once(verb: Verb) -> None:
    """What ``master.outcome.settlement`` does without asking the table."""
    assert next_step(Facts(verb=verb), acked=False) is next_step(Facts(verb=verb), acked=True) is Step.SETTLE


def test_the_facts_that_deliveries_share_cannot_be_written_to() -> None:
    for field in fields(Facts):
        assert getattr(NO_FACTS, field.name) == getattr(Facts(), field.name)
        with pytest.raises(TypeError, match=field.name):
            setattr(NO_FACTS, field.name, getattr(NO_FACTS, field.name))
    own = NO_FACTS.own()
    own.unconfirmed = 1
    assert own.own() is own
    assert NO_FACTS.unconfirmed == 0


# -- the child died ------------------------------------------------------------------------------------------


def every_death() -> Iterator[Death]:
    for begun, aimed, acked, terminated, terminating, exhausted in itertools.product(*[BOTH] * 6):
        for stored_verb in (None, *SETTLING):
            yield Death(begun, aimed, stored_verb, acked, terminated, terminating, exhausted)


def expected_fate(death: Death) -> Fate:
    if death.stored_verb is not None:
        return Fate.SETTLE_STORED
    if death.aimed and death.terminated:
        return Fate.REVOKE
    ran = death.begun or death.aimed
    if death.terminating:
        return Fate.PUBLISH_AGAIN if death.acked and not ran else Fate.REQUEUE
    return Fate.FAIL if ran or death.exhausted else Fate.HAND_ON


def test_every_death_has_the_fate_that_is_documented() -> None:
    for death in every_death():
        assert after_child_death(death) is expected_fate(death), death


def test_every_row_of_deaths_is_the_first_that_holds_for_some_death() -> None:
    taken = {next(index for index, row in enumerate(CHILD_DEATH) if row.holds(death)) for death in every_death()}
    assert taken == set(range(len(CHILD_DEATH)))


def test_what_has_begun_never_runs_elsewhere_uncounted() -> None:
    for death in every_death():
        if death.begun and not death.terminating:
            assert after_child_death(death) is not Fate.HAND_ON


@pytest.mark.parametrize("verb", sorted(SETTLING))
def test_a_message_that_kills_whoever_decodes_it_is_dead_lettered(verb: Verb) -> None:
    assert verb_of_lost_task(verb, accepted=True) is verb
    assert verb_of_lost_task(verb, accepted=False) is (Verb.REJECT if verb is Verb.ACK else verb)


@pytest.mark.parametrize("verb", sorted(SETTLING))
def test_a_tasks_own_request_outranks_the_ack_table(verb: Verb) -> None:
    assert overridden(verb, None) is verb
    assert [overridden(verb, each) for each in sorted(SETTLING)] == sorted(SETTLING)
