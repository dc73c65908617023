"""Encodes the results of a Celery app for the master, as the app's backend would.

Called in a child by ``adopted.result_handoff`` for a SUCCESS that the master stores. Celery's own code makes the
document. Most documents differ in the result, the time and the id alone, and Celery takes longer to make one than to
run a small task. So the JSON of such a document is put together from its parts, if a trial at the start shows that
both ways give the same bytes. It must never give other bytes than Celery's.
"""

from __future__ import annotations

import json
from datetime import datetime
from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING, Any, Final

from celery import states
from celery.app.task import Context
from kombu.exceptions import EncodeError
from kombu.serialization import dumps
from kombu.utils.encoding import ensure_bytes

from turbo.ring import frames

if TYPE_CHECKING:
    from celery import Celery

#: Documents above this size, in bytes, cost the master more than they save the child.
_LARGEST: Final = 65_536
#: Reply queues and correlation ids above this length, in characters, might not fit into AMQP's 255 bytes.
_LONGEST: Final = 63
#: Integers below it are shown without asking the encoder.
_LARGE: Final = 10**30
#: What the trial encodes: text beyond ASCII, quotes, nesting, a float and a value of a type that only kombu knows.
_TRIAL: Final = (
    None,
    True,
    7,
    1.5,
    'ä"\\\n\ud83d\ude00',
    [1, {"a": None, "b": [0.1, "ü"]}],
    datetime(2000, 1, 2, 3, 4, 5),
)


class ResultDocuments:
    """Packs the results of one backend in one child."""

    __slots__ = ("_backend", "_by_parts", "_sends_replies", "_zone")

    def __init__(self, app: Celery) -> None:
        """``app``: its backend is one of those that ``adopted.handed_backends`` knows."""
        self._backend = app.backend
        self._sends_replies = hasattr(self._backend, "_to_result")
        self._zone = app.timezone
        compressed = getattr(self._backend, "compression", None)
        self._by_parts = False
        if (
            self._backend.serializer == "json"
            and not compressed
            and not app.conf.find_value_for_key("extended", "result")
        ):
            self._by_parts = all(self._is_same_by_parts(value) for value in _TRIAL)

    def packed(self, task_id: str, result: Any, request: Context) -> bytes | None:  # hot: bench drain --app celery
        """Pack a SUCCESS for the master.

        Empty: its caller wants no reply. None: Celery has to store it. Raises what Celery's encoding raises.
        """
        reply_to = correlation_id = content_type = encoding = ""
        if self._sends_replies:
            reply_to, correlation_id = self._backend.destination_for(task_id, request)
            if not reply_to:
                return b""
            if len(reply_to) > _LONGEST or len(correlation_id) > _LONGEST:
                return None
            content_type, encoding = "application/json", "utf-8"
        document = None
        if self._by_parts and not (request.group or request.parent_id or request._children):
            document = self._of_parts(task_id, result, datetime.now(self._zone).isoformat())
        if document is None:
            content_type, encoding, document = self._by_celery(task_id, result, request)
        if len(document) > _LARGEST:
            return None
        store = frames.StoreRequest(task_id, document, True, reply_to, correlation_id, content_type, encoding)
        return frames.pack_store(store)

    def _by_celery(self, task_id: str, result: Any, request: Context) -> tuple[str, str, bytes]:
        """Return content type, encoding and bytes of what the backend would store."""
        backend = self._backend
        if self._sends_replies:
            meta = backend._to_result(task_id, states.SUCCESS, result, None, request)
            content_type, encoding, document = dumps(meta, serializer=backend.serializer)
            return content_type, encoding, ensure_bytes(document)
        meta = backend._get_result_meta(result=result, state=states.SUCCESS, traceback=None, request=request)
        meta["task_id"] = task_id
        return "", "", ensure_bytes(backend.encode(meta))

    def _of_parts(self, task_id: str, result: Any, date_done: str) -> bytes | None:
        """Return the document of a result outside of groups, sent by no task.

        None for a value that does not encode: Celery's own encoding then says why.
        """
        if result is None:
            text = "null"
        elif type(result) is bool:
            text = "true" if result else "false"
        elif type(result) is int and -_LARGE < result < _LARGE:
            text = str(result)
        else:
            try:
                text = dumps(result, serializer="json")[2]
            except EncodeError:
                return None
        return (
            f'{{"status": "SUCCESS", "result": {text}, "traceback": null, "children": [], '
            f'"date_done": "{date_done}", "task_id": {encode_basestring_ascii(task_id)}}}'
        ).encode()

    def _is_same_by_parts(self, value: Any) -> bool:
        """Whether Celery makes the same bytes of this result, but for the time."""
        task_id = "trial-\u00e4"
        kind, _, document = self._by_celery(task_id, value, Context(id=task_id))
        date_done = json.loads(document).get("date_done")
        known = kind in ("", "application/json") and isinstance(date_done, str)
        if not known or datetime.fromisoformat(date_done).utcoffset() != datetime.now(self._zone).utcoffset():
            return False
        return self._of_parts(task_id, value, date_done) == document
