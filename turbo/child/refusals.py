"""Ends messages that do not run: unknown, unreadable or expired.

Logs each and stores FAILURE or REVOKED.

Runs in a child, called by ``native.executor``. If the signal of such a message has receivers, the document is sent
first, and the DONE record goes to the master's outcome hooks, which call them: these receivers live in the master. It
must never run a task.
"""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import TYPE_CHECKING

from turbo import signals, states
from turbo.child.endings import logger
from turbo.exceptions import InvalidTaskError, NotRegistered, TaskRevokedError
from turbo.policy.settling import Ending, Verb
from turbo.protocol.message import salvage
from turbo.protocol.message_errors import UnknownMessageError
from turbo.protocol.saferepr import clean, saferepr
from turbo.ring import frames

if TYPE_CHECKING:
    from turbo.child.chords import Chords
    from turbo.child.documents import Documents
    from turbo.child.plan import Plan
    from turbo.child.questions import Questions
    from turbo.child.reporting import Reporter
    from turbo.protocol.message import TaskMessage
    from turbo.protocol.properties import Properties
    from turbo.ring.link import ChildLink
    from turbo.signals import Signal


class Refusals:
    """Ends the messages that one child does not run."""

    def __init__(
        self, link: ChildLink, documents: Documents, reporter: Reporter, chords: Chords, questions: Questions
    ) -> None:
        self._link = link
        self._documents = documents
        self._reporter = reporter
        self._chords = chords
        self._questions = questions

    def expired(self, seq: int, began: int, message: TaskMessage, plan: Plan) -> None:
        """End a message whose expiry has passed."""
        logger.info("Discarding revoked task: %s: it has expired", message.label)
        error = TaskRevokedError("expired")
        store = self._documents.failure(message, plan, states.REVOKED, error, None)
        store = self._counted(seq, message, store, Verb.ACK, error, states.REVOKED)
        self._end(seq, began, Verb.ACK, Ending.REVOKED, store, signals.task_revoked, "expired")

    def unknown(self, seq: int, began: int, message: TaskMessage) -> None:
        """End a message whose task is not registered here."""
        logger.error("Received unregistered task of type '%s'. Its message is rejected", clean(message.task, 200))
        # As in Celery's master, a part of a chord is not counted: another worker may know the task and count it.
        alone = replace(message, group=None, parent_id=None)
        store = self._documents.failure(alone, None, states.FAILURE, NotRegistered(message.task), None)
        self._end(seq, began, Verb.REJECT, Ending.UNKNOWN_TASK, store, signals.task_unknown, message.task)

    def unreadable(self, seq: int, began: int, properties: Properties | None, body: bytes, error: Exception) -> None:
        """Reject a message that cannot be read; store FAILURE if its id is known."""
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
        """Store the document of a part of a chord and count it.

        Returns the document if it is still to be stored.
        """
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
            self._reporter.done(seq, began, verb, ending, store=store)
            return
        if store:
            self._link.emit(frames.STORE, seq, (store,))
        self._reporter.done(seq, began, verb, ending, payload=pickle.dumps(why))


def log_unreadable(error: Exception, which: str) -> None:
    """Log why an unreadable message is rejected; the lines begin as Celery's do.

    ``which`` names the message, with a space before, or is empty.
    """
    why = saferepr(str(error), 400)
    if isinstance(error, UnknownMessageError):
        logger.warning("Received and deleted unknown message.  Wrong destination?!? It%s is rejected: %s", which, why)
    elif isinstance(error, InvalidTaskError):
        logger.error("Received invalid task message: %s. The message%s is rejected", why, which)
    else:
        logger.critical("Can't decode message body: %s. The message%s is rejected", why, which)
