"""From ``result_backend`` to the reader that ``AsyncResult`` uses, and the reader of an app without results.

Run by the app, in clients and children, when a result is first needed. Opens nothing by itself.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from turbo.amqp.tls import tls_options
from turbo.amqp.url import parse_broker_urls
from turbo.backends.reader_settings import reader_settings
from turbo.backends.redis.client import RedisReader
from turbo.backends.rpc.client import RpcReader
from turbo.backends.url import store_kind
from turbo.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from turbo.amqp.topology import Queue
    from turbo.backends.reading import Meta, ResultReader


def open_reader(conf: Mapping[str, Any], reply_to: Callable[[], str]) -> ResultReader:
    """Make the reader that ``conf["result_backend"]`` names. Raises ``ImproperlyConfigured``.

    ``reply_to`` names the calling thread's reply queue: the value of ``reply_to`` in the tasks that it sends.
    """
    url = conf["result_backend"]
    kind = store_kind(url)
    if kind == "redis":
        if find_spec("redis") is None:
            raise ImproperlyConfigured("results in Redis need redis: pip install 'turbo-worker[redis]'")
        return RedisReader(url, reader_settings(conf))
    if kind == "rpc":
        broker, use_ssl = conf["broker_url"], tls_options(conf["broker_use_ssl"])
        addresses = parse_broker_urls(broker, tls=use_ssl is not None)
        return RpcReader(addresses, reply_to, reader_settings(conf), tls=use_ssl)
    return DisabledReader()


class DisabledReader:
    """Says what to do instead, when a result is asked of an app that keeps none."""

    #: Nothing is counted here.
    chords = None

    def _refuse(self) -> NotImplementedError:
        return NotImplementedError(
            "No result backend is configured.\nSet result_backend (redis://… or rpc://) to read results"
        )

    def get_task_meta(self, task_id: str) -> Meta:
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
        """Store nothing: there is nowhere to."""

    def reply_queue(self, name: str) -> Queue | None:
        """None: there are no replies."""
        return None

    def as_uri(self, include_password: bool = False) -> str:
        """Return ``disabled://``."""
        return "disabled://"

    def close(self) -> None:
        """Nothing to close."""
