"""Decides how a delivery is finished after its task: two tables.

Facts go in, the next step comes out.

Pure: no clock, no I/O. Before it: ``policy.settling`` gives the verb for the ending. After it:
``master.outcome.settlement`` carries out the steps, records their results in :class:`Facts` and asks again;
``master.children.dead_child`` carries out the fate of a message whose child died. The order of the tables is a promise
to users: a late-acked message must never be acknowledged before the broker has confirmed everything that its task sent
and the store has its result.

:func:`next_step` walks ``FINISHING`` (what must still happen before the message is settled) and returns the first row
that holds. :func:`after_child_death` does the same for ``CHILD_DEATH`` (what becomes of a message whose child died).
Both are tested over all combinations of their facts.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import Enum, unique
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, Protocol, TypeVar

from turbo.policy.settling import Verb

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn


class Document(Protocol):
    """The part of a result document that the tables use."""

    @property
    def guard(self) -> bool:
        """Whether it is a failure or revocation, which never replaces a SUCCESS."""


D = TypeVar("D", bound=Document)


@dataclass(frozen=True, slots=True)
class Question(Generic[D]):
    """A running task that waits for its document to be stored before it goes on."""

    #: The message's verb if the child dies after a positive answer.
    verb: Verb
    #: The document; None when the task waits only for the confirms of its messages.
    document: D | None
    #: Called once with whether the document is stored; never called if the task ends before.
    answer: Callable[[bool], None]


@dataclass(slots=True)
class Facts(Generic[D]):
    """The facts that the end of one delivery depends on.

    Each field names the modules that write it.
    """

    #: Number of the task's publishes that the broker has not confirmed. Written by ``master.outcome.settlement``.
    unconfirmed: int = 0
    #: Number of the task's state writes (STARTED, RETRY, custom states) not yet answered by the store; a retry waits
    #: for them. Written by ``master.outcome.settlement``.
    unstored: int = 0
    #: Why one of the task's messages was refused or could not be sent; empty if there is none. Written by
    #: ``master.outcome.settlement``.
    unsent: str = ""
    #: Whether the broker or the store refused for good: another run would be refused too. Written by
    #: ``master.outcome.settlement``.
    permanent: bool = False
    #: Whether the task failed and its callbacks, handlers and receivers have been called or are about to be. Written by
    #: ``master.outcome.settlement``.
    failed: bool = False
    #: The verb to carry out; None until the outcome is known. Written by ``master.outcome.settlement``.
    verb: Verb | None = None
    #: The result document to store before the verb is carried out. Written by ``master.outcome.settlement``.
    document: D | None = None
    #: The document that the task itself waits for. Written by ``master.outcome.settlement``.
    question: Question[D] | None = None
    #: The verb to use if the child dies now. Set once the outcome is stored or the retry is on its way, while handlers
    #: run. Written by ``master.outcome.settlement``.
    stored_verb: Verb | None = None
    #: Whether the task has sent its next attempt. Written by ``master.outcome.settlement``.
    retried: bool = False
    #: Whether the store could not store the outcome's document, or refused it. Written by
    #: ``master.outcome.settlement``.
    store_failed: bool = False
    #: Why the document was not stored; empty when unknown. Written by ``master.outcome.settlement``.
    store_refusal: str = ""

    def own(self) -> Facts[D]:
        """Return writable facts: these, or new ones for the shared :data:`NO_FACTS`."""
        return self


class _NoFacts(Facts[Any]):
    """Empty facts, shared by most deliveries; writing to them raises."""

    __slots__ = ()

    def __init__(self) -> None:
        for field in fields(Facts):
            object.__setattr__(self, field.name, field.default)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise TypeError(f"{name} was set on the facts that all deliveries share; write to own()")

    def own(self) -> Facts[Any]:
        return Facts()


NO_FACTS: Final = _NoFacts()


@unique
class Step(Enum):
    """The next step for a delivery."""

    #: Nothing, until the broker confirms or the outcome is known.
    WAIT = "wait"
    #: Tell the waiting task that its document is stored (or that everything it sent is confirmed).
    ANSWER_STORED = "answer stored"
    #: Tell the waiting task that its document is not stored.
    ANSWER_NOT_STORED = "answer not stored"
    #: Store the document that the task waits for, then ask again.
    STORE_QUESTION = "store what the task waits for"
    #: The task counts as failed because the broker did not take a message that it sent: tell the app, store FAILURE,
    #: settle.
    FAIL_UNSENT = "fail: a message was not taken"
    #: The task counts as failed because its result was refused: tell the app, store FAILURE, settle.
    FAIL_UNSTORED = "fail: its result was refused"
    #: Store the result document, then ask again.
    STORE = "store"
    #: Settle the message with the verb that is known.
    SETTLE = "settle"
    #: Put the message back into its queue, whatever verb is known; its document is dropped.
    REQUEUE = "requeue"


class Row(NamedTuple):
    """One row of :data:`FINISHING`; the first that holds is taken.

    ``acked``: the message was acknowledged early.
    """

    holds: Callable[[Facts[Any], bool], bool]
    step: Step
    #: Why this row is where it is.
    reason: str


def _is_failure(document: Document | None) -> bool:
    return document is not None and document.guard


def _answers_failure(facts: Facts[Any]) -> bool:
    """Whether the task waits for the storing of its final failure."""
    question = facts.question
    return question is not None and _is_failure(question.document)


#: From the facts to the next step.
FINISHING: Final[tuple[Row, ...]] = (
    Row(
        lambda facts, acked: facts.unconfirmed > 0,
        Step.WAIT,
        "Nothing is stored or settled before the broker has confirmed everything that the task sent.",
    ),
    # The outcome is not known: at most the task waits for its document.
    Row(
        lambda facts, acked: facts.verb is None and facts.question is None,
        Step.WAIT,
        "The task still runs.",
    ),
    Row(
        lambda facts, acked: (
            facts.verb is None and facts.unsent != "" and not (_answers_failure(facts) and (acked or facts.permanent))
        ),
        Step.ANSWER_NOT_STORED,
        "A message was refused or could not be sent, and a stored outcome would claim that everything was sent. Only a "
        "failure that no other run can replace is stored.",
    ),
    Row(
        lambda facts, acked: facts.verb is None and facts.question is not None and facts.question.document is None,
        Step.ANSWER_STORED,
        "The task has no document and waited only for the confirms.",
    ),
    Row(
        lambda facts, acked: facts.verb is None,
        Step.STORE_QUESTION,
        "Everything that the task sent is confirmed, so its outcome may become visible.",
    ),
    # The outcome is known, and the broker did not take a message of the task.
    Row(
        lambda facts, acked: (
            facts.unsent != "" and (acked or facts.permanent) and not facts.failed and not _is_failure(facts.document)
        ),
        Step.FAIL_UNSENT,
        "Part of the task's effect is lost, and the task cannot run again or would be refused again. A task that "
        "failed keeps its own failure.",
    ),
    Row(
        lambda facts, acked: facts.unsent != "" and not acked and not facts.permanent,
        Step.REQUEUE,
        "The message could not be sent this time, but another run can send it. A stored result would claim that "
        "everything is done.",
    ),
    # The outcome is known, and its document is not stored.
    Row(
        lambda facts, acked: facts.store_failed and (facts.verb is not Verb.ACK or facts.failed),
        Step.SETTLE,
        "The verb does not depend on the document: the message goes back or is dead-lettered, or the app was told of "
        "the failure.",
    ),
    Row(
        lambda facts, acked: facts.store_failed and facts.permanent,
        Step.FAIL_UNSTORED,
        "The store would refuse the result of every further run too, so the task would run forever.",
    ),
    Row(
        lambda facts, acked: facts.store_failed,
        Step.REQUEUE,
        "Acknowledging the message now would leave no trace of the task, so it runs again.",
    ),
    Row(
        lambda facts, acked: facts.document is not None,
        Step.STORE,
        "The result is stored before the message is acknowledged.",
    ),
    Row(lambda facts, acked: True, Step.SETTLE, "Everything that must come first is done."),
)


def _step_of_table(facts: Facts[Any], acked: bool) -> Step:
    for row in FINISHING:
        if row.holds(facts, acked):
            return row.step
    raise AssertionError("the last row always holds")


@dataclass(frozen=True, slots=True)
class _Result:
    guard: bool = False


#: The table's steps for a task of which nothing has failed and nothing is unconfirmed: with its result, and without.
_SOUND_WITH_RESULT: Final = _step_of_table(Facts(verb=Verb.ACK, document=_Result()), acked=False)
_SOUND: Final = _step_of_table(Facts(verb=Verb.ACK), acked=False)


def next_step(facts: Facts[Any], *, acked: bool) -> Step:  # hot: bench drain --results redis
    """Return what is to be done next.

    ``acked``: the message was acknowledged when its task started.
    """
    if facts.verb is None or facts.unconfirmed or facts.unsent or facts.store_failed:
        return _step_of_table(facts, acked)
    # Nothing else tells the rows apart, and to ask each of them takes ten times as long.
    return _SOUND if facts.document is None else _SOUND_WITH_RESULT


# -- the child died ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Death:
    """What is known of a delivery that a child held when it died."""

    #: The child had entered the task's body, or a handler before the body had raised.
    begun: bool
    #: The child was killed because of this task: for its hard limit, or because it was terminated.
    aimed: bool
    #: The outcome's verb if that outcome is stored or the retry is on its way.
    stored_verb: Verb | None
    #: The message was acknowledged when its task started.
    acked: bool
    #: The task was terminated by remote control.
    terminated: bool
    #: The worker kills its children: a cold shutdown.
    terminating: bool
    #: The number of children that died with the message before they entered its body has reached
    #: ``task_max_deliveries``.
    exhausted: bool


@unique
class Fate(Enum):
    """What becomes of a delivery whose child died."""

    #: Settle with the stored outcome's verb.
    SETTLE_STORED = "settle as stored"
    #: REVOKED, as ``revoke(terminate=True)`` asks.
    REVOKE = "revoke"
    #: Publish the acknowledged message to its queue again.
    PUBLISH_AGAIN = "publish again"
    #: Give it back to the broker, uncounted.
    REQUEUE = "requeue"
    #: Give it to another child, unless it has been revoked in the meantime.
    HAND_ON = "hand on"
    #: The task ended with its child: retry, or WorkerLostError, TimeLimitExceeded, MemoryLimitExceeded.
    FAIL = "fail"


class DeathRow(NamedTuple):
    """One row of :data:`CHILD_DEATH`; the first that holds is taken."""

    holds: Callable[[Death], bool]
    fate: Fate
    #: Why this row is where it is.
    reason: str


CHILD_DEATH: Final[tuple[DeathRow, ...]] = (
    DeathRow(
        lambda death: death.stored_verb is not None,
        Fate.SETTLE_STORED,
        "The outcome is stored or the retry is on its way; the child died in the task's handlers.",
    ),
    DeathRow(
        lambda death: death.terminated and death.aimed,
        Fate.REVOKE,
        "This task was to be terminated, whether or not its body had begun.",
    ),
    DeathRow(
        lambda death: death.terminating and death.acked and not death.begun and not death.aimed,
        Fate.PUBLISH_AGAIN,
        "The message was acknowledged and its task never ran; a cold shutdown must not lose it.",
    ),
    DeathRow(
        lambda death: death.terminating,
        Fate.REQUEUE,
        "The worker itself killed its children, so the task has not failed.",
    ),
    DeathRow(
        lambda death: not (death.begun or death.aimed or death.exhausted),
        Fate.HAND_ON,
        "Nothing of the body has run, so another child may run it. The number of times is limited, because decoding "
        "the message or a receiver can kill a child too.",
    ),
    DeathRow(lambda death: True, Fate.FAIL, "The body had begun, or too many children died with the message."),
)


def after_child_death(death: Death) -> Fate:
    """Return what becomes of a delivery that a dead child held and had claimed."""
    for row in CHILD_DEATH:
        if row.holds(death):
            return row.fate
    raise AssertionError("the last row always holds")


def verb_of_lost_task(verb: Verb, *, accepted: bool) -> Verb:
    """Adjust the verb chosen for a task that died with its child.

    The ack table or the app's hooks chose it. A message that was never ``accepted`` is not acknowledged but rejected,
    so a dead-letter queue keeps it: decoding it may kill any child. REQUEUE is carried out by
    ``master.outcome.poison``, which counts deaths, so a message that kills its child at every start does not come back
    for ever.
    """
    if verb is Verb.ACK and not accepted:
        return Verb.REJECT
    return verb


def overridden(verb: Verb, verb_override: Verb | None) -> Verb:
    """Return the verb that the ``Request`` asked for, or the ack table's."""
    return verb if verb_override is None else verb_override
