"""Manages Django's database and cache connections around a worker's tasks.

None is inherited or kept too long.

Called through signals: before the fork in the command, after it and around each task in a child, and in the master
after each call of the program's code. It gets Django's connection handler as an argument, so it imports nothing of
Django. It must never close a connection that another process uses: a forked process has its parent's sockets, and
closing a connection in order sends a goodbye to the server on them.
"""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

logger = logging.getLogger("turbo.fixups.django")

_NOWHERE: Final = os.devnull
#: Seconds without a task after which an open connection is tested before the next task: its server may have closed it,
#: and the test costs little compared with such a pause.
IDLE: Final = 0.1


class TaskConnections:
    """The connections of this process's threads.

    ``handler`` is ``django.db.connections``, ``close_caches`` the function of ``django.core.cache``. With
    ``reuse_max`` connections are closed after so many tasks, whatever their age; with 0 each is closed when its
    CONN_MAX_AGE says so, which by default is after every task. A broken connection is closed at once.
    """

    def __init__(self, handler: Any, close_caches: Callable[[], object], reuse_max: int = 0) -> None:
        self._handler = handler
        self._close_caches = close_caches
        self._reuse_max = reuse_max
        self._uses = 0
        #: When the last task ended, in monotonic seconds.
        self._rests_since = 0.0
        #: Pools of the parent, and connections that could not be detached from their sockets. They are referenced here
        #: because the garbage collector would close them.
        self._inherited: list[Any] = []
        self._closing: set[asyncio.Task[None]] = set()

    def before_fork(self) -> None:
        """Close all connections and pools opened so far: children must not share them."""
        for connection in self._opened():
            _close(connection)
            _close_pool(connection)
        self._close_caches()

    def after_fork(self, **_: object) -> None:
        """Drop connections that were open at the fork, without sending anything."""
        for connection in self._opened():
            pool = _taken_pool(connection)
            if pool is None and connection.connection is None:
                continue
            if pool is None and _is_off_its_socket(connection):
                _close(connection)
                if connection.in_atomic_block:
                    # Django would not reopen it here: the transaction is the parent's.
                    del self._handler[connection.alias]
            else:
                self._inherited += [connection, pool]
                del self._handler[connection.alias]
        self._close_caches()

    def before_task(self, sender: Any, **_: object) -> None:
        """Close old and broken connections before the task ``sender`` begins."""
        if sender.request.is_eager:
            return
        self._look(kept=self._reuse_max > 0)
        if time.monotonic() - self._rests_since > IDLE:
            for connection in self._opened():
                if connection.connection is not None and not connection.is_usable():
                    _close(connection)

    def after_task(self, sender: Any, **_: object) -> None:
        """Close the connections that are due after the task ``sender``."""
        if sender.request.is_eager:
            return
        self._uses += 1
        kept = self._uses < self._reuse_max
        if not kept:
            self._uses = 0
        self._look(kept)
        self._close_caches()
        self._look_beside(kept)
        self._rests_since = time.monotonic()

    def after_hook(self) -> None:
        """Close connections after a handler or receiver in the master."""
        self._look(kept=False)
        self._close_caches()

    # -- inside ------------------------------------------------------------------------------------------

    def _opened(self) -> list[Any]:
        """This thread's connections."""
        return list(self._handler.all(initialized_only=True))

    def _look(self, kept: bool) -> None:
        """Close the connections that are due. ``kept``: ignore their age."""
        for connection in self._opened():
            if connection.connection is None and not connection.in_atomic_block:
                continue
            if connection.in_atomic_block:
                # The transaction was not ended. Django would not reopen this connection, so replace it.
                _close(connection)
                del self._handler[connection.alias]
            elif not kept and self._reuse_max:
                _close(connection)
            elif not kept:
                _attempt(connection, connection.close_if_unusable_or_obsolete)
            elif connection.errors_occurred and not connection.is_usable():
                _close(connection)
            if not kept:
                _close_pool(connection)

    def _look_beside(self, kept: bool) -> None:
        """Check asgiref's thread too, in which a coroutine's queries run."""
        import asyncio  # clients import this module and may do without

        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        from asgiref.sync import sync_to_async

        look = loop.create_task(sync_to_async(self._look)(kept))
        self._closing.add(look)
        look.add_done_callback(self._closing.discard)


def _taken_pool(connection: Any) -> Any:
    """Take an inherited connection's pool from Django; None if it has none.

    Django keeps pools by alias. Closing it would close its idle connections, all of them the parent's. Its threads are
    the parent's too.
    """
    pools = getattr(connection, "_connection_pools", None)
    return None if pools is None else pools.pop(connection.alias, None)


def _is_off_its_socket(connection: Any) -> bool:
    """Replace an inherited connection's socket by /dev/null.

    False if its descriptor is unknown.
    """
    try:
        descriptor = connection.connection.fileno()
    except Exception as error:  # noqa: BLE001 - whatever a driver raises, and some have no such method
        logger.debug(
            "The inherited connection %s has no known descriptor; it stays unused: %r", connection.alias, error
        )
        return False
    nowhere = os.open(_NOWHERE, os.O_RDWR)
    try:
        os.dup2(nowhere, descriptor, inheritable=False)
    finally:
        os.close(nowhere)
    return True


def _close(connection: Any) -> None:
    _attempt(connection, connection.close)


def _close_pool(connection: Any) -> None:
    """Close a connection's pool, which is meant for threaded servers.

    Its threads and idle connections would stay.
    """
    if connection.settings_dict.get("OPTIONS", {}).get("pool") and hasattr(connection, "close_pool"):
        _attempt(connection, connection.close_pool)


def _attempt(connection: Any, close: Callable[[], None]) -> None:
    """Close a connection.

    If its server has ended it, closing fails, but Django drops it anyway.
    """
    try:
        close()
    except Exception as error:  # noqa: BLE001 - drivers raise classes of their own
        logger.info("The connection %s could not be closed in order; it is dropped: %r", connection.alias, error)
