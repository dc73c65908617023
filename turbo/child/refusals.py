"""Messages that do not run: unknown, unreadable or expired. Each is logged, and FAILURE or REVOKED stored.

Runs in a child, called by ``native.executor``. Where receivers want to hear of such a message, the document goes ahead
and the DONE record goes to the master's judge, who tells them: receivers of these signals live in the master.
"""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import TYPE_CHECKING

from turbo import signals, states
from turbo.child.endings import logger
from turbo.exceptions import InvalidTaskError, NotRegistered, TaskRevokedError
from turbo.policy.settling import Ending, Verb
from turbo.protocol.message import UnknownMessageError, salvage
from turbo.protocol.saferepr import clean, saferepr
from turbo.ring import frames

if TYPE_CHECKING:
    from turbo.child.chords import Chords
    from turbo.child.documents import Documents
    from turbo.child.done import DoneRecords
    from turbo.child.plan import Plan
    from turbo.child.questions import Questions
    from turbo.protocol.message import TaskMessage
    from turbo.protocol.properties import Properties
    from turbo.ring.link import ChildLink
    from turbo.signals import Signal


class Refusals:
    """Ends the messages that one child does not run."""

    def __init__(
        self, link: ChildLink, documents: Documents, done: DoneRecords, chords: Chords, questions: Questions
    ) -> None:
        self._link = link
        self._documents = documents
        self._done = done
        self._chords = chords
        self._questions = questions

    def expired(self, seq: int, began: int, message: TaskMessage, plan: Plan) -> None:
        """Its time to run is over."""
        logger.info("Discarding revoked task: %s: it has expired", message.label)
        error = TaskRevokedError("expired")
        store = self._documents.failure(message, plan, states.REVOKED, error, None)
        store = self._counted(seq, message, store, Verb.ACK, error, states.REVOKED)
        self._end(seq, began, Verb.ACK, Ending.REVOKED, store, signals.task_revoked, "expired")

    def unknown(self, seq: int, began: int, message: TaskMessage) -> None:
        """No task of this name is registered here."""
        logger.error("Received unregistered task of type '%s'. Its message is rejected", clean(message.task, 200))
        # As Celery's master has it: who sent the task may have a worker that knows it, and counts it then.
        alone = replace(message, group=None, parent_id=None)
        store = self._documents.failure(alone, None, states.FAILURE, NotRegistered(message.task), None)
        self._end(seq, began, Verb.REJECT, Ending.UNKNOWN_TASK, store, signals.task_unknown, message.task)

    def unreadable(self, seq: int, began: int, properties: Properties | None, body: bytes, error: Exception) -> None:
        """The message cannot be understood: reject it, and store FAILURE where its id is known."""
        store = b""
        where = ""
        if properties is not None:
            message = salvage(properties, body)
            if message is None:
                where = " without an id"
            else:
                where = f" {message.label}"
                store = self._documents.failure(message, None, states.FAILURE, error, None)
        log_unreadable(error, where)
        self._end(seq, began, Verb.REJECT, Ending.UNDECODABLE, store, signals.task_rejected, str(error))

    def _counted(
        self, seq: int, message: TaskMessage, store: bytes, verb: Verb, error: BaseException, state: str
    ) -> bytes:
        """Count a part of a chord when its document is stored. Returns the document where that is still to be done."""
        if not self._chords.concerns(message):
            return store
        if store:
            self._questions.ask(seq, None, store)
            self._questions.wait(seq)
        left = self._chords.failed(message, error, state)
        if left:
            self._questions.ask(seq, verb, b"")
            taken = self._questions.wait(seq)
            for close in left:
                close(taken)
        return b""

    def _end(
        self, seq: int, began: int, verb: Verb, ending: Ending, store: bytes, signal: Signal, why: str
    ) -> None:  # fmt: skip
        if not signal.receivers:
            self._done.write(seq, began, verb, ending, store=store)
            return
        if store:
            self._link.emit(frames.STORE, seq, (store,))
        self._done.write(seq, began, verb, ending, told=pickle.dumps(why))


def log_unreadable(error: Exception, which: str) -> None:
    """Say why a message is rejected that is no task, or a broken one; the lines begin as Celery's do.

    ``which`` names it, where it can be named, with a space before.
    """
    why = saferepr(str(error), 400)
    if isinstance(error, UnknownMessageError):
        logger.warning("Received and deleted unknown message.  Wrong destination?!? It%s is rejected: %s", which, why)
    elif isinstance(error, InvalidTaskError):
        logger.error("Received invalid task message: %s. The message%s is rejected", why, which)
    else:
        logger.critical("Can't decode message body: %s. The message%s is rejected", why, which)
