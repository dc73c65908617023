"""Makes the reader for ``result_backend``, or that of an app without results.

Called by the app, in clients and children, when a result is first needed. Opens no connection.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from turbo.amqp.tls import tls_options
from turbo.amqp.url import parse_broker_urls
from turbo.backends.called import CalledByPrograms
from turbo.backends.reader_settings import reader_settings
from turbo.backends.redis.client import RedisReader
from turbo.backends.rpc.client import RpcReader
from turbo.backends.url import store_kind
from turbo.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from turbo.amqp.topology import Queue
    from turbo.backends.reader import Meta, ResultReader


def open_reader(conf: Mapping[str, Any], reply_to: Callable[[], str]) -> ResultReader:
    """Return the reader for ``conf["result_backend"]``.

    ``reply_to`` returns the name of the calling thread's reply queue, which is the ``reply_to`` of the tasks that it
    sends. Raises ``ImproperlyConfigured`` for an unknown store or a missing package.
    """
    url = conf["result_backend"]
    kind = store_kind(url)
    if kind == "redis":
        if find_spec("redis") is None:
            raise ImproperlyConfigured("results in Redis need redis: pip install 'turbo-worker[redis]'")
        return RedisReader(url, reader_settings(conf))
    if kind == "sql":
        if find_spec("sqlalchemy") is None:
            raise ImproperlyConfigured("results in a database need sqlalchemy: pip install 'turbo-worker[sql]'")
        # This module imports SQLAlchemy, which belongs to the extra "sql".
        found: ResultReader = import_module("turbo.backends.sql.client").SqlReader(url, reader_settings(conf))
        return found
    if kind == "rpc":
        broker, use_ssl = conf["broker_url"], tls_options(conf["broker_use_ssl"])
        addresses = parse_broker_urls(broker, tls=use_ssl is not None)
        return RpcReader(addresses, reply_to, reader_settings(conf), tls=use_ssl)
    return DisabledReader()


class DisabledReader(CalledByPrograms):
    """The reader of an app without a result store.

    Reading raises an error that says how to configure one.
    """

    #: There is no store to count chords or to save groups.
    chords = None
    groups = None

    def _refuse(self) -> NotImplementedError:
        return NotImplementedError(
            "No result backend is configured.\nSet result_backend (redis://…, db+…:// or rpc://) to read results"
        )

    def get_task_meta(self, task_id: str, cache: bool = True) -> Meta:
        """Raise ``NotImplementedError``, as Celery does."""
        raise self._refuse()

    def wait_for(
        self,
        task_id: str,
        *,
        timeout: float | None = None,
        interval: float = 0.5,
        on_interval: Callable[[], object] | None = None,
        on_message: Callable[[Meta], object] | None = None,
    ) -> Meta:
        """Raise ``NotImplementedError``, as Celery does."""
        raise self._refuse()

    def watch(self, task_id: str, found: Callable[[Meta], object]) -> Callable[[], None]:
        """Raise ``NotImplementedError``."""
        raise self._refuse()

    def forget(self, task_id: str) -> None:
        """Raise ``NotImplementedError``, as Celery does."""
        raise self._refuse()

    def store_result(
        self, task_id: str, result: object, state: str, traceback: str | None = None, request: Any = None
    ) -> None:
        """Do nothing: there is no store."""

    def reply_queue(self, name: str) -> Queue | None:
        """Return None: there are no replies."""
        return None

    def as_uri(self, include_password: bool = False) -> str:
        """Return ``disabled://``."""
        return "disabled://"

    def close(self) -> None:
        """Do nothing: there is nothing to close."""
