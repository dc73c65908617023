"""Encodes result documents in the child; the master only moves them to the store.

Runs in a child, between the end of a body and its DONE record. Every function returns the packed store request of
``ring.frames``, or nothing when no result is kept. It must never write to the store itself.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from turbo import states
from turbo.child.followups import steps_left
from turbo.exceptions import EncodeError
from turbo.protocol import result_meta
from turbo.protocol.faults import to_wire
from turbo.protocol.saferepr import saferepr
from turbo.ring import frames

if TYPE_CHECKING:
    from turbo.app.tasks.context import Context
    from turbo.child.options import ChildOptions
    from turbo.child.plan import Plan
    from turbo.child.reporting import Reporter
    from turbo.protocol.message import TaskMessage

logger = logging.getLogger(__name__)


def ignored(message: TaskMessage, plan: Plan) -> bool:
    """Whether the result is discarded.

    The message's option takes precedence over the task's.
    """
    return plan.ignore_result if message.ignore_result is None else message.ignore_result


class Documents:
    """Builds and encodes the documents of one child."""

    def __init__(self, options: ChildOptions, reporter: Reporter, pid: int) -> None:
        self._options = options
        self._reporter = reporter
        self._pid = pid
        #: The common case: a document with the basic fields only, encoded as JSON.
        self._plain = options.result_serializer == "json" and not options.result_extended and not options.result_rows

    def started(self, message: TaskMessage) -> bytes:
        """Return the document of a task that has started."""
        document = result_meta.build_meta(
            message.id,
            states.STARTED,
            {"pid": self._pid, "hostname": self._options.hostname},
            None,
            group_id=message.group,
            parent_id=message.parent_id,
        )
        return self._packed(document, message)

    def success(self, message: TaskMessage, request: Context, result: object) -> bytes:  # hot: bench drain --results
        """Return the document of a task that returned.

        Raises EncodeError, which makes the task a failure.
        """
        if not self._plain or request.has_children:
            return self._packed(self._document(message, states.SUCCESS, result, None, request), message)
        document = result_meta.build_meta(
            message.id,
            states.SUCCESS,
            result,
            None,
            date_done=datetime.now(UTC).isoformat(),
            group_id=message.group,
            parent_id=message.parent_id,
        )
        return frames.pack_store(
            frames.StoreRequest(
                message.id,
                result_meta.encode_meta(document),
                False,
                message.reply_to or "",
                message.correlation_id or message.id,
                "application/json",
                "utf-8",
            )
        )

    def failure(
        self,
        message: TaskMessage,
        plan: Plan | None,
        state: str,
        error: BaseException | None,
        trace: str | None,
        request: Context | None = None,
    ) -> bytes:
        """Return the document of a state with an exception.

        Empty when nothing is to be stored.
        """
        if not self._options.stores:
            return b""
        if plan is not None and ignored(message, plan) and not plan.keep_errors:
            return b""
        document = self._document(message, state, to_wire(error) if error is not None else None, trace, request)
        try:
            return self._packed(document, message)
        except EncodeError as failure:
            # Only ``result_extended`` adds values that may not encode. The error itself must be stored.
            logger.warning("Document of %s is stored without its arguments: %s", message.label, failure)
            document.update(args=saferepr(message.args), kwargs=saferepr(message.kwargs))
            return self._packed(document, message)

    def chain_failures(self, message: TaskMessage, error: BaseException, trace: str | None) -> list[bytes]:
        """Return FAILURE documents for a chain's later steps.

        A caller that waits for the last must not hang.
        """
        packed = []
        for signature in steps_left(message.chain):
            options = signature.get("options") or {}
            task_id = options.get("task_id")
            if not isinstance(task_id, str) or not task_id:
                continue
            document = result_meta.build_meta(
                task_id,
                states.FAILURE,
                to_wire(error),
                trace,
                date_done=datetime.now(UTC).isoformat(),
                group_id=options.get("group_id"),
                parent_id=options.get("parent_id"),
            )
            reply_to = options.get("reply_to")
            request = self._reporter.request(
                document, task_id, reply_to if isinstance(reply_to, str) else None, task_id
            )
            packed.append(frames.pack_store(request))
        return packed

    def _packed(self, document: dict[str, Any], message: TaskMessage) -> bytes:
        return frames.pack_store(self._reporter.request(document, message.id, message.reply_to, message.correlation_id))

    def _document(
        self, message: TaskMessage, state: str, result: object, trace: str | None, request: Context | None
    ) -> dict[str, Any]:
        extended: dict[str, object] | None = None
        if self._options.result_extended:
            origin = request.delivery_info if request is not None else None
            extended = result_meta.extended(message, self._options.hostname, (origin or {}).get("routing_key"))
        return result_meta.build_meta(
            message.id,
            state,
            result,
            trace,
            children=[child.as_tuple() for child in request.children] if request is not None else [],
            date_done=datetime.now(UTC).isoformat() if state in states.READY_STATES else None,
            group_id=message.group,
            parent_id=message.parent_id,
            extended=extended,
        )
