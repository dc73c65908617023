"""Decides whether the master may store the results of a Celery app.

Called by the command, which tells the master where to store (:func:`can_be_handed`), and again by each child after
``worker_process_init``, whose receivers may have wrapped what was untouched before (:func:`is_untouched`). The answer
is yes for Celery's own backends for one plain Redis and for replies (``rpc://``), with nothing replaced and no setting
that the master does not know. It must never say yes where a program or library would miss a call of its own.
"""

from __future__ import annotations

import logging
from importlib.util import find_spec
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from celery.app.amqp import AMQP
from kombu.messaging import Producer
from kombu.utils.encoding import ensure_bytes

from turbo.backends.redis.wire import STORE_SCRIPT, task_key_prefix

if TYPE_CHECKING:
    from collections.abc import Iterable

    from celery import Celery

logger = logging.getLogger(__name__)

#: Connection options, beyond address and login, that the master may ignore.
_UNIMPORTANT: Final = frozenset({"max_connections", "socket_timeout", "socket_connect_timeout", "driver_info",
                                 "lib_name", "lib_version"})  # fmt: skip
_ADDRESS: Final = frozenset({"host", "port", "db", "username", "password"})
#: Seconds for the server to answer, at the start of a worker.
_PATIENCE: Final = 2.0
#: Methods of every backend that a result passes.
_OF_ALL: Final[tuple[str, ...]] = ("mark_as_done", "store_result", "_get_result_meta", "prepare_value", "encode_result")
#: Those of one kind of backend alone.
_OF_REDIS: Final[tuple[str, ...]] = ("_store_result", "get", "set", "_set", "encode", "_encode")
_OF_REPLIES: Final[tuple[str, ...]] = ("_to_result", "destination_for", "on_reply_declare")


def can_be_handed(app: Celery) -> str | None:
    """Return the URL of the store where the master may write this app's results.

    None if Celery has to.
    """
    if not is_untouched(app):
        return None
    return "rpc://" if _sends_replies(app.backend) else _redis_url(app)


def is_untouched(app: Celery) -> bool:
    """Whether the app's backend is Celery's own for one Redis or for replies.

    No library has wrapped its methods or those that it sends by. Tracing libraries wrap them, some in
    ``worker_process_init``.
    """
    backend = app.backend
    kind = type(backend)
    if (kind.__module__, kind.__name__) == ("celery.backends.redis", "RedisBackend"):
        client = backend.redis.client
        own = _OF_REDIS
        sends = _are_of((client.Redis.execute_command, client.Pipeline.execute), client.__name__)
    elif _sends_replies(backend):
        own = _OF_REPLIES
        # Without confirms, a state that a body has stored might reach the client after the result.
        confirms = (app.conf.broker_transport_options or {}).get("confirm_publish", True)
        steps = (Producer.publish, Producer._publish, Producer._prepare)
        sends = bool(confirms) and type(app.amqp) is AMQP and _are_of(steps, "kombu.messaging")
    else:
        return False
    methods = _OF_ALL + own
    replaced = any(name in vars(backend) for name in methods)
    return sends and not replaced and _are_of((getattr(kind, name) for name in methods), "celery.backends.")


def _sends_replies(backend: Any) -> bool:
    kind = type(backend)
    return (kind.__module__, kind.__name__) == ("celery.backends.rpc", "RPCBackend")


def _are_of(functions: Iterable[Any], module: str) -> bool:
    """Whether all are plain functions of this module, or of this package's modules.

    A wrapper may pass for the function that it wraps, but by its type.
    """
    return all(type(each) is FunctionType and each.__globals__["__name__"].startswith(module) for each in functions)


def _redis_url(app: Celery) -> str | None:
    backend = app.backend
    given = {name: value for name, value in backend.connparams.items() if value}
    prefix = (app.conf.result_backend_transport_options or {}).get("global_keyprefix") or ""
    if (
        not given.keys() <= _UNIMPORTANT | _ADDRESS
        or backend._ConnectionPool not in (None, backend.redis.ConnectionPool)
        or ensure_bytes(backend.task_keyprefix) != task_key_prefix(prefix)
        or find_spec("hiredis") is None
        or not _runs_scripts(backend)
    ):
        return None
    login = ":".join(quote(str(given[name]), safe="") for name in ("username", "password") if name in given)
    if "username" not in given and login:
        login = f":{login}"
    host = str(given["host"])
    place = f"[{host}]" if ":" in host else host
    return f"redis://{login}{'@' if login else ''}{place}:{given['port']}/{given.get('db', 0)}"


def _runs_scripts(backend: Any) -> bool:
    """Whether the server loads the script that stores a result.

    Asks over a separate connection.
    """
    patience = {"socket_timeout": _PATIENCE, "socket_connect_timeout": _PATIENCE}
    client = backend._create_client(**{**backend.connparams, **patience})
    try:
        client.script_load(STORE_SCRIPT.decode())
    except (OSError, backend.redis.RedisError) as error:
        logger.info("Children store their results themselves: Redis does not load a script (%r)", error)
        return False
    finally:
        client.connection_pool.disconnect()
    return True
