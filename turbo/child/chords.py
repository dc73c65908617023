"""Counts ended parts of chords in the store.

The part that ends last sends the chord's body.

Runs where a task ends: in its child, after ``child.endings``, or on the master's hook thread, for ``native.hooks``.
``backends.redis.chords`` does the counting, over the app's own connection; the body is sent like any follow-up. Where
the store cannot count, nothing is done: the sender of such a chord has sent a task that polls the results. A part must
never be settled before it is counted.

Why a body is sent at least once, and no chord hangs, wherever a process is killed:

* A part is settled after it is counted. A part that was not counted runs again, or the master ends and counts it.
  Counting a part twice has the effect of counting it once.
* The part that completes the count claims the chord under its own name. If its process is killed before the broker has
  the body, claim and counters remain. The same part, run or ended again, completes the count and gets the claim again.
* The counters are deleted only when the body is confirmed (:meth:`Chords.succeeded` returns the calls that do it), and
  the part is settled after that. So a body is sent twice, with the same id, where a process dies between the two.
"""

from __future__ import annotations

import logging
import random
import time
import traceback
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from turbo import failpoint, states
from turbo.app.canvas.call_form import several
from turbo.app.tasks.context import Context
from turbo.backends.redis.chords import Part, RedisChords, Standing, is_refused
from turbo.child import followups
from turbo.exceptions import ChordError, OperationalError, TurboError
from turbo.policy.restarts import reconnect_delay
from turbo.protocol.faults import from_wire, to_wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from turbo.app.base import Turbo
    from turbo.protocol.message import TaskMessage

    #: Called when the broker has answered for all that was sent; the argument says whether it took everything.
    Close = Callable[[bool], None]

logger = logging.getLogger("celery.app.trace")

_Answer = TypeVar("_Answer")

#: Seconds between checks of a chord that another process has claimed.
_CLAIM_LOOK = 0.5
#: Key in the counted value of a failed part that is a chord's body: the error callbacks already called for it.
_HEARD = "turbo_errbacks_heard"


class _BrokenError(Exception):
    """A part failed: the chord's error, and the error callbacks already called."""

    def __init__(self, error: ChordError, heard: Sequence[Any]) -> None:
        super().__init__(error, heard)
        self.error = error
        self.heard = heard


class Chords:
    """Counts the parts that end in this process, for one app."""

    def __init__(self, app: Turbo) -> None:
        self._app = app

    def encoded(self, message: TaskMessage, result: object) -> bytes:
        """Encode a part's result for counting. EncodeError fails the task."""
        counter, part = self._app.backend.chords, _part_of(message)
        return counter.encode(part, states.SUCCESS, result) if counter is not None and part is not None else b""

    def succeeded(self, message: TaskMessage, gave: bytes) -> list[Close]:
        """Count a part that returned; return the calls to make after the confirm."""
        counter, part = self._app.backend.chords, _part_of(message)
        return self._ended(counter, part, message.chord, gave) if counter is not None and part is not None else []

    def failed(self, message: TaskMessage, error: BaseException, state: str = states.FAILURE) -> list[Close]:
        """Count a part that failed or was revoked, and those in its chain's rest."""
        counter, part = self._app.backend.chords, _part_of(message)
        if counter is None:
            return []
        left = []
        if part is not None and message.chord is not None:
            left += self._ended(counter, part, message.chord, _given(counter, part, error, state))
        if state == states.FAILURE:
            left += self._fail_parts(counter, followups.steps_left(message.chain), error)
        return left

    def concerns(self, message: TaskMessage) -> bool:
        """Whether a failure of this message affects a chord."""
        return message.chord is not None or any(map(_chord_of, followups.steps_left(message.chain)))

    # -- inside ------------------------------------------------------------------------------------------

    def _ended(self, counter: RedisChords, part: Part, body: Mapping[str, Any], gave: bytes) -> list[Close]:
        """Count one part and continue a complete chord. Raises nothing."""
        try:
            standing = _patiently(partial(counter.count, part, gave))
            while standing is Standing.THEIRS:
                # This part was counted before. The process that completed the chord may have been killed since. If it
                # was a Celery worker, no other process continues the chord: wait until it is over or the claim expires.
                time.sleep(_CLAIM_LOOK)
                standing = _patiently(partial(counter.count, part, gave))
            if failpoint.ENABLED:
                failpoint.hit("child.chord_counted")
            return self._carry_on(counter, part, body) if standing is Standing.OURS else []
        except Exception:
            logger.exception("Chord %s cannot be continued after its part %s", part.group_id, part.task_id)
            return []

    def _carry_on(self, counter: RedisChords, part: Part, body: Mapping[str, Any]) -> list[Close]:
        """Send the body with the results of the parts, or report that it will never run."""
        try:
            values = self._collected(counter, part.group_id)
        except _BrokenError as broken:
            logger.error("Chord %s fails: %s", part.group_id, broken.error)
            error = broken.error.with_traceback(broken.__traceback__)
            return self._break(counter, part, body, error, broken.heard)
        except (TurboError, ValueError) as error:
            logger.exception("The results of the parts of chord %s cannot be read; the chord fails", part.group_id)
            return self._break(counter, part, body, ChordError(f"Join error: {error!r}"))
        if values is None:
            return []
        try:
            followups.send(self._app, body, (values,))
        except Exception as error:
            logger.exception("The body of chord %s cannot be sent; the chord fails", part.group_id)
            return self._break(counter, part, body, ChordError(f"Callback error: {error!r}"))
        if failpoint.ENABLED:
            failpoint.hit("child.chord_body_sent")
        return [partial(self._answered, counter, part, body)]

    def _answered(self, counter: RedisChords, part: Part, body: Mapping[str, Any], taken: bool) -> None:
        """Handle the broker's answer for the body, which may be too large for it."""
        if taken:
            if failpoint.ENABLED:
                failpoint.hit("child.chord_confirmed")
            _tidy(partial(counter.close, part))
            if failpoint.ENABLED:
                failpoint.hit("child.chord_closed")
            return
        logger.error("The broker refused the body of chord %s; the chord fails", part.group_id)
        for close in self._break(counter, part, body, ChordError("Callback error: not taken by the broker")):
            close(True)

    def _collected(self, counter: RedisChords, group_id: str) -> list[Any] | None:
        """Return the parts' results, arranged like the header.

        Raises _BrokenError for the first failed part. Returns None if the results are gone: a second run of the same
        part, or a Celery worker, has sent the body.
        """
        results = _patiently(partial(counter.results, group_id))
        if not results:
            return None
        structure = _patiently(partial(counter.restore_group, group_id))
        for task_id, state, value in results:
            if state in states.PROPAGATE_STATES:
                raise _broken(task_id, value)
        if structure is None:
            return [value for _, _, value in results]
        given = {task_id: value for task_id, _, value in results}
        return [self._arranged(each, given) for each in structure[1] or ()]

    def _arranged(self, place: Any, given: Mapping[str, Any]) -> Any:
        """Return the value of a header's place: a result, or a list for a group."""
        (task_id, _parent), inner = place
        if inner is not None:
            return [self._arranged(each, given) for each in inner]
        if task_id in given:
            return given[task_id]
        # Counted under another id, such as that of the chain that it ends.
        timeout = self._app.conf["result_chord_join_timeout"]
        meta = self._app.backend.wait_for(task_id, timeout=timeout)
        if meta["status"] in states.PROPAGATE_STATES:
            raise _broken(task_id, meta["result"])
        return meta["result"]

    # -- failed chords -----------------------------------------------------------------------------------

    def _break(
        self,
        counter: RedisChords,
        part: Part,
        body: Mapping[str, Any],
        error: ChordError,
        heard: Sequence[Any] = (),
    ) -> list[Close]:
        """Fail the body, which will never run. ``heard``: callbacks called already."""
        # Members of a group fail with the cause, not with the ChordError: they are no parts of the chord.
        cause = error.__cause__ or error if body.get("subtask_type") == "group" else error
        trace = "".join(traceback.format_exception(type(cause), cause, error.__traceback__))
        left = self._fail(counter, body, cause, trace, heard=heard)
        return [*left, lambda _taken: _tidy(partial(counter.give_up, part))]

    def _fail(
        self,
        counter: RedisChords,
        signature: Mapping[str, Any],
        error: BaseException,
        trace: str,
        errbacks: Iterable[Any] = (),
        heard: Sequence[Any] = (),
    ) -> list[Close]:
        """Store FAILURE and run error callbacks for an unmade call and its parts."""
        options = signature.get("options") or {}
        inner = (signature.get("kwargs") or {}).get("tasks") or ()
        kind = signature.get("subtask_type")
        errbacks = _distinct([*several(options.get("link_error")), *errbacks])
        if kind == "group":
            self._store(options.get("task_id"), error)
            left = [close for each in inner for close in self._fail(counter, each, error, trace, errbacks, heard)]
        elif kind == "chain" and inner:
            end = {**inner[-1], "options": {**(inner[-1].get("options") or {}), **options, "chain": None}}
            left = self._fail_parts(counter, inner[:-1], error, store=True)
            left += self._fail(counter, end, error, trace, errbacks, heard)
        elif kind == "chord":
            body = (signature.get("kwargs") or {}).get("body") or {}
            left = self._fail(counter, body, error, trace, errbacks, heard)
        else:
            left = self._fail_one(counter, signature, error, trace, errbacks, heard)
        return [*left, *self._fail_parts(counter, followups.steps_left(options.get("chain")), error, store=True)]

    def _fail_one(
        self,
        counter: RedisChords,
        signature: Mapping[str, Any],
        error: BaseException,
        trace: str,
        errbacks: list[Any],
        heard: Sequence[Any],
    ) -> list[Close]:
        # An error callback that was also linked to a chord in the header has been called there.
        errbacks = [each for each in errbacks if _call_of(each) not in heard]
        options = signature.get("options") or {}
        task_id = options.get("task_id") or str(uuid4())
        request = Context(id=task_id, task=signature.get("task"), delivery_info={}, errbacks=errbacks,
                          args=signature.get("args"), kwargs=signature.get("kwargs"))  # fmt: skip
        try:
            sent = followups.after_failure(self._app, errbacks, request, error, None)
        except (TurboError, TypeError, ValueError) as failure:
            logger.exception("Error callbacks of %s could not be sent: %s", task_id, failure)
        else:
            # A caller that waits for the body finds the results of its error callbacks among its children.
            request.children.extend([sent] if sent is not None else [])
        self._store(task_id, error, trace, request)
        heard = [*heard, *map(_call_of, errbacks)]
        return self._fail_parts(
            counter, [{**signature, "options": {**options, "task_id": task_id}}], error, heard=heard
        )

    def _fail_parts(
        self,
        counter: RedisChords,
        signatures: Iterable[Mapping[str, Any]],
        error: BaseException,
        *,
        store: bool = False,
        heard: Sequence[Any] = (),
    ) -> list[Close]:
        """Count as failed the unmade calls in chords; ``store``: documents too."""
        left = []
        for signature in signatures:
            options = signature.get("options") or {}
            if store:
                self._store(options.get("task_id"), error)
            body = _chord_of(signature)
            if body is not None:
                part = Part(options["task_id"], options["group_id"], options.get("group_index"))
                left += self._ended(counter, part, body, _given(counter, part, error, heard=heard))
        return left

    def _store(
        self, task_id: object, error: BaseException, trace: str | None = None, request: Context | None = None
    ) -> None:
        if isinstance(task_id, str):
            _patiently(partial(self._app.backend.store_result, task_id, error, states.FAILURE, trace, request))


def _part_of(message: TaskMessage) -> Part | None:
    return Part(message.id, message.group, message.group_index) if message.group else None


def _chord_of(signature: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the body of the chord that a call is a part of, if it is one."""
    options = signature.get("options") or {}
    body = options.get("chord")
    return body if isinstance(body, dict) and options.get("task_id") and options.get("group_id") else None


def _given(
    counter: RedisChords,
    part: Part,
    error: BaseException,
    state: str = states.FAILURE,
    heard: Sequence[Any] = (),
) -> bytes:
    document = to_wire(error)
    return counter.encode(part, state, {**document, _HEARD: list(heard)} if heard else document)


def _broken(task_id: str, document: Any) -> _BrokenError:
    """Build a chord's error from its failed part, whose callbacks were called."""
    heard = document.get(_HEARD) if isinstance(document, dict) else None
    return _BrokenError(_chord_error(task_id, document), heard if isinstance(heard, list) else [])


def _chord_error(task_id: str, document: Any) -> ChordError:
    cause = from_wire(document) if isinstance(document, dict) else document
    error = ChordError(f"Dependency {task_id} raised {cause!r}")
    if isinstance(cause, BaseException):
        error.__cause__ = cause
    return error


def _call_of(errback: Any) -> Any:
    """Return task and arguments of an error callback, without options: its identity."""
    if not isinstance(errback, dict):
        return errback
    return [errback.get("task"), list(errback.get("args") or ()), dict(errback.get("kwargs") or {})]


def _distinct(errbacks: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for each in errbacks:
        if each not in found:
            found.append(each)
    return found


def _tidy(call: Callable[[], None]) -> None:
    try:
        _patiently(call)
    except OperationalError as error:
        logger.warning("The counters of a chord cannot be deleted; they expire: %s", error)


def _patiently(call: Callable[[], _Answer]) -> _Answer:
    """Call until the store answers. Raises OperationalError for a refusal."""
    failures = 0
    while True:
        try:
            return call()
        except OperationalError as error:
            if is_refused(error):
                raise
            failures += 1
            logger.warning("The store is unavailable; a part of a chord waits to be counted: %s", error)
            time.sleep(reconnect_delay(failures, random.random()))
