"""The definition of a scenario: what a client sends, and how every message ends under any worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.scenarios.place import Held
    from tests.scenarios.sending import Sending

#: Why turbo's client cannot send a scenario.
PROTOCOL_1 = "turbo's client sends protocol 2 only"


class _Anything:
    """Equal to every value, for values that are only compared between workers."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "<anything>"


ANYTHING: Any = _Anything()


@dataclass(frozen=True, slots=True)
class End:
    """The end of one message: the state and contents of its stored document."""

    state: str | None
    result: Any = ANYTHING
    #: For exceptions: the class as ``module.Name``, and a part of the message.
    error: str = ""
    text: str = ""
    #: How the traceback's last line begins; None: there is no traceback.
    last_line: Any = None


def ok(result: Any = ANYTHING) -> End:
    """SUCCESS with this result, in its JSON form."""
    return End("SUCCESS", result)


def failed(error: str, text: str = "", *, last_line: Any = "", state: str = "FAILURE") -> End:
    """FAILURE with an exception of that class whose message contains ``text``.

    ``last_line``: how the traceback's last line begins; the class's name unless given; None: no traceback.
    """
    return End(state, error=error, text=text, last_line=last_line or error.removeprefix("builtins."))


def ended(error: str, text: str = "", *, state: str = "FAILURE") -> End:
    """Like ``failed``, without a traceback, because no body raised."""
    return End(state, error=error, text=text, last_line=None)


#: No document is stored.
NOTHING = End(None)
LOST = ended("billiard.exceptions.WorkerLostError", "signal 9 (SIGKILL)")
HARD = ended("billiard.exceptions.TimeLimitExceeded")
SOFT = failed("billiard.exceptions.SoftTimeLimitExceeded")


@dataclass(frozen=True, slots=True)
class Scenario:
    """One row: ``send`` sends messages under labels, and ``ends`` gives the end of each label."""

    name: str
    send: Callable[[Sending], object]
    ends: Mapping[str, End]
    #: Labels of the children that a message's document lists.
    children: Mapping[str, list[str]] = field(default_factory=dict)
    #: For some labels, what the recorder heard of them, in order: ``child prerun`` and so on, first words only.
    heard: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: Labels whose messages are found in the queue of dead letters.
    dead: tuple[str, ...] = ()
    #: Labels in the order in which they begin.
    order: tuple[str, ...] = ()
    #: Why only Celery's client sends it; empty: turbo's does as well.
    celery_only: str = ""
    #: Made of groups and chords: whose part ends last is a race.
    canvas: bool = False
    #: What is looked at while the task runs, and what is to be seen.
    during: Callable[[Sending, Held], object] | None = None
    seen: Any = None
    #: Sent before the worker starts.
    early: bool = False
    #: Also run where the app's own Celery is an old one.
    smoke: bool = False


#: What the recorder hears of a message that succeeds, or fails, in its child.
SUCCESS = "child prerun, child success, child postrun"
FAILURE = "child prerun, child failure, child postrun"


def one(name: str, task: str, *args: Any, end: End, heard: str = "", dead: bool = False, smoke: bool = False,
        **options: Any) -> Scenario:  # fmt: skip
    """A scenario of one message, labelled ``it``. The usual reports are expected unless others are given."""
    usual = {"SUCCESS": SUCCESS, "FAILURE": FAILURE}
    words = heard or (usual.get(end.state or "", ""))
    return Scenario(
        name,
        lambda to: to.send("it", task, *args, **options),
        {"it": end},
        heard={"it": tuple(words.split(", "))} if words else {},
        dead=("it",) if dead else (),
        smoke=smoke,
    )
