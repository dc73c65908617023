"""Confirms in every order the broker may choose."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness.examples import examples
from turbo.amqp.publish.confirms import ConfirmLedger, Outgoing


def message(name: str = "m", *, mandatory: bool = False, body: bytes = b"b", key: str = "q") -> Outgoing:
    return Outgoing("", key, name.encode(), b"header", body, mandatory, None)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("send"), st.integers(1, 5), st.booleans()),
            st.tuples(st.just("answer"), st.integers(0, 60), st.booleans()),
        ),
        max_size=60,
    )
)
@settings(max_examples=examples(100))
def test_each_message_is_answered_once_and_in_order(program: list[tuple[str, int, bool]]) -> None:
    ledger = ConfirmLedger()
    sent: list[Outgoing] = []
    open_numbers: set[int] = set()
    for step, number, flag in program:
        if step == "send":
            for _ in range(number):
                each = message(mandatory=flag)
                assert ledger.sent(each) == len(sent) + 1
                sent.append(each)
                open_numbers.add(len(sent))
            continue
        ended = list(ledger.answered(number, flag))
        if flag:
            expected = sorted(n for n in open_numbers if n <= number or number == 0)
        else:
            expected = [number] if number in open_numbers else []
        assert ended == [sent[n - 1] for n in expected]
        open_numbers.difference_update(expected)
        assert len(ledger) == len(open_numbers)
        assert ledger.size == sum(sent[n - 1].size for n in open_numbers)
    assert ledger.abandon() == [sent[n - 1] for n in sorted(open_numbers)]
    assert len(ledger) == 0
    assert ledger.size == 0


def test_a_returned_message_is_the_oldest_equal_one() -> None:
    ledger = ConfirmLedger()
    optional, first, other, second = (
        message(),
        message(mandatory=True),
        message(mandatory=True, body=b"other"),
        message(mandatory=True),
    )
    for each in (optional, first, other, second):
        ledger.sent(each)
    assert ledger.came_back("", "q", b"b")
    assert (optional.returned, first.returned, other.returned, second.returned) == (False, True, False, False)
    assert ledger.came_back("", "q", b"b")
    assert second.returned
    assert not ledger.came_back("", "q", b"b")
    assert not ledger.came_back("", "another", b"other")


def test_unknown_numbers_answer_nothing() -> None:
    ledger = ConfirmLedger()
    ledger.sent(message())
    assert list(ledger.answered(9, False)) == []
    assert len(list(ledger.answered(9, True))) == 1
    assert list(ledger.answered(1, False)) == []
