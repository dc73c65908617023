"""Builds the verb and failure document of what the master decides itself.

Runs in the master. Before it: the outcome hooks (hard limit, memory limit, death, expired, revoked), and
``master.outcome.poison`` and ``lost_retries``. After it: ``master.outcome.settlement``. It knows tasks only as
``policy.task_options``. The documents equal those of Celery's own master. It must never decode a body, only headers.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import turbo.states as states
from turbo.exceptions import InvalidTaskError, TaskRevokedError
from turbo.policy.settling import Ending, Verb, settle
from turbo.policy.task_options import TaskOptions
from turbo.protocol import faults, result_meta
from turbo.protocol.message import TaskMessage, parse_headers
from turbo.protocol.properties import decode_header
from turbo.protocol.table import TableError
from turbo.ring.frames import StoreRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from turbo.master.delivery.ledger import Delivery

logger = logging.getLogger(__name__)

_JSON = "application/json"
_UTF8 = "utf-8"


class FailureDocuments:
    """Builds verbs and documents for deliveries that end without a child's report."""

    def __init__(self, tasks: Mapping[str, TaskOptions], *, stores: bool, extended_by: str = "") -> None:
        """``extended_by``: the node name for extended documents, else empty."""
        self._tasks = tasks
        self._stores = stores
        self._extended_by = extended_by

    def message(self, delivery: Delivery) -> TaskMessage | None:
        """The delivery's decoded headers, or None when they cannot be read. Decoded once."""
        if delivery.message is None:
            try:
                properties, _size = decode_header(delivery.header)
                delivery.message = parse_headers(properties, delivery.body)
            except (TableError, InvalidTaskError, ValueError) as error:
                # The child that gets the message logs the details and rejects it.
                logger.debug("Headers of delivery %d cannot be read: %s", delivery.tag, error)
        return delivery.message

    def options(self, message: TaskMessage | None) -> TaskOptions:
        """The options of the message's task; defaults for an unknown task."""
        name = message.task if message is not None else ""
        return self._tasks.get(name) or TaskOptions(name)

    def failure(self, delivery: Delivery, ending: Ending, error: BaseException) -> tuple[Verb, StoreRequest | None]:
        """Return the verb and the document of a delivery that ends with an exception."""
        message = self.message(delivery)
        options = self.options(message)
        verb = settle(ending, options.ack_options(acked=delivery.acked))
        if verb is Verb.REQUEUE and ending is Ending.WORKER_LOST:
            return verb, None
        return verb, self.document(message, options, states.FAILURE, error)

    def retries_when_lost(self, delivery: Delivery) -> bool:
        """Whether a task whose child died is retried, as an attempt that counts.

        Only when the headers carry the number of retries, which messages of protocol 1 do not.
        """
        message = self.message(delivery)
        options = self.options(message)
        if message is None or not options.retry_on_worker_lost or "task" not in (message.properties.headers or {}):
            return False
        return options.max_retries is None or message.retries < options.max_retries

    def revoked(self, delivery: Delivery, reason: str) -> tuple[Verb, StoreRequest | None]:
        """Return verb and document of an expired or revoked delivery."""
        message = self.message(delivery)
        options = self.options(message)
        store = self.document(message, options, states.REVOKED, TaskRevokedError(reason))
        return settle(Ending.REVOKED, options.ack_options()), store

    def document(
        self, message: TaskMessage | None, options: TaskOptions, state: str, error: BaseException
    ) -> StoreRequest | None:
        """Return the document of a state with an exception.

        None when nothing is to be stored.
        """
        if message is None or not message.id or not self._stores:
            return None
        ignored = options.ignore_result if message.ignore_result is None else message.ignore_result
        if ignored and not options.store_errors_even_if_ignored:
            return None
        extended = None
        if self._extended_by:
            # The arguments are in the body, which is not decoded here, and the message does not name its queue.
            extended = result_meta.extended(message, self._extended_by, None, arguments=False)
        payload = result_meta.encode_meta(
            result_meta.build_meta(
                message.id,
                state,
                faults.to_wire(error),
                None,
                date_done=datetime.now(UTC).isoformat() if state in states.READY_STATES else None,
                group_id=message.group,
                parent_id=message.parent_id,
                extended=extended,
            )
        )
        return StoreRequest(
            message.id,
            payload,
            True,
            message.reply_to or "",
            message.correlation_id or message.id,
            _JSON,
            _UTF8,
        )

    def step_failure(
        self, options: Mapping[str, Any], message: TaskMessage, error: BaseException
    ) -> StoreRequest | None:
        """Return the failure document of a later step of the message's chain.

        None when none is stored. That step will never run. ``options`` are those of its signature.
        """
        task_id = options.get("task_id")
        if not self._stores or not isinstance(task_id, str) or not task_id:
            return None
        if self.document(message, self.options(message), states.FAILURE, error) is None:
            return None
        document = result_meta.build_meta(
            task_id,
            states.FAILURE,
            faults.to_wire(error),
            None,
            date_done=datetime.now(UTC).isoformat(),
            group_id=options.get("group_id"),
            parent_id=options.get("parent_id"),
        )
        reply_to = options.get("reply_to")
        return StoreRequest(
            task_id,
            result_meta.encode_meta(document),
            True,
            reply_to if isinstance(reply_to, str) else "",
            task_id,
            _JSON,
            _UTF8,
        )
