"""How signals end Celery's receiver: between two events, and at once where nothing is received."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from turbo.cli.event_monitors import Interruption


class Receiver:
    """Stands for Celery's: signals come while it reads an event."""

    def __init__(self, *signals: int) -> None:
        self.read: list[int] = []
        self._signals = signals

    def on_iteration(self) -> None:
        """Called before each event."""

    def consume(self, limit: int) -> Iterator[None]:
        for number in range(limit):
            self.on_iteration()
            for each in self._signals if number == 1 else ():
                signal.raise_signal(each)
            self.read.append(number)
            yield


@pytest.fixture
def interruption() -> Iterator[Interruption]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    made = Interruption()
    made.listen(signal.SIGINT, KeyboardInterrupt)
    made.listen(signal.SIGTERM, lambda: SystemExit(0))
    yield made
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.row("EV19")
@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_the_event_that_is_read_is_read_to_its_end(
    interruption: Interruption, number: int, error: type[BaseException]
) -> None:
    receiver = interruption.receiver(Receiver)(number)
    with pytest.raises(error):
        list(receiver.consume(9))
    assert receiver.read == [0, 1]


def test_a_second_signal_does_not_wait(interruption: Interruption) -> None:
    receiver = interruption.receiver(Receiver)(signal.SIGTERM, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        list(receiver.consume(9))
    assert receiver.read == [0]


def test_where_nothing_is_received_none_waits(interruption: Interruption) -> None:
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    receiver = interruption.receiver(Receiver)()
    assert list(receiver.consume(limit=2)) == [None, None]
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
