"""Django's connections to databases and caches around a worker's tasks: none is inherited, none outlives its time.

Called through signals: before the fork in the command, after it and around each task in a child; and in the master
after each piece of the program's code. What it is given is
Django's handler of connections, so that it imports nothing of Django's. It must never end a connection that another
process uses: a forked process has its parent's sockets, and closing a connection in order says goodbye to the server
on them.
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
#: Seconds without a task after which an open connection is tried before the next one: its server may have ended it
#: meanwhile, and to ask costs less than the share of a task's time that such a pause is.
IDLE: Final = 0.1


class TaskConnections:
    """The connections of this process's threads.

    ``handler`` is ``django.db.connections``, ``close_caches`` the function of ``django.core.cache``. With
    ``reuse_max`` connections are closed after so many tasks, whatever their age; with 0 each is closed when its
    CONN_MAX_AGE says so, which by default is after every task. What is broken is closed at once.
    """

    def __init__(self, handler: Any, close_caches: Callable[[], object], reuse_max: int = 0) -> None:
        self._handler = handler
        self._close_caches = close_caches
        self._reuse_max = reuse_max
        self._uses = 0
        #: When the last task ended, in monotonic seconds.
        self._rests_since = 0.0
        #: Pools of the parent's, and connections that could not be taken off their sockets, kept from the garbage
        #: collector, which would close them.
        self._inherited: list[Any] = []
        self._closing: set[asyncio.Task[None]] = set()

    def before_fork(self) -> None:
        """Close what setting up has opened, pools included: no child may share it."""
        for connection in self._opened():
            _close(connection)
            _close_pool(connection)
        self._close_caches()

    def after_fork(self, **_: object) -> None:
        """Let go of what was opened before the fork all the same, without a word to any server."""
        for connection in self._opened():
            pool = _taken_pool(connection)
            if pool is None and connection.connection is None:
                continue
            if pool is None and _is_off_its_socket(connection):
                _close(connection)
            else:
                self._inherited += [connection, pool]
                del self._handler[connection.alias]
        self._close_caches()

    def before_task(self, sender: Any, **_: object) -> None:
        """The task ``sender`` begins; it must not find a connection that is too old or broken."""
        if sender.request.is_eager:
            return
        self._look(kept=self._reuse_max > 0)
        if time.monotonic() - self._rests_since > IDLE:
            for connection in self._opened():
                if connection.connection is not None and not connection.is_usable():
                    _close(connection)

    def after_task(self, sender: Any, **_: object) -> None:
        """The task ``sender`` has ended."""
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
        """Something that is no task has ended: a handler or receiver in the worker's master."""
        self._look(kept=False)
        self._close_caches()

    # -- inside ------------------------------------------------------------------------------------------

    def _opened(self) -> list[Any]:
        """This thread's connections."""
        return list(self._handler.all(initialized_only=True))

    def _look(self, kept: bool) -> None:
        """Close what is due. ``kept``: age does not count."""
        for connection in self._opened():
            if connection.connection is None and not connection.in_atomic_block:
                continue
            if connection.in_atomic_block:
                # A transaction that nobody ended. Django would not open such a connection again: it gets another.
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
        """A coroutine's queries ran in another thread, which asgiref keeps for them: look there as well."""
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
    """Take the pool of an inherited connection away from Django, which keeps pools by alias; None if it has none.

    Closing it would close its idle connections, all of them the parent's. Its threads are the parent's too.
    """
    pools = getattr(connection, "_connection_pools", None)
    return None if pools is None else pools.pop(connection.alias, None)


def _is_off_its_socket(connection: Any) -> bool:
    """Put nothing in the place of an inherited connection's socket; False where it does not tell its descriptor."""
    try:
        descriptor = connection.connection.fileno()
    except Exception as error:  # noqa: BLE001 - whatever a driver raises, and some have no such method
        logger.debug("the inherited connection %s does not tell its socket: %r", connection.alias, error)
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
    """Close the pool that a connection came from: its threads and idle connections are for threaded servers."""
    if connection.settings_dict.get("OPTIONS", {}).get("pool") and hasattr(connection, "close_pool"):
        _attempt(connection, connection.close_pool)


def _attempt(connection: Any, close: Callable[[], None]) -> None:
    """Close; a connection that its server ended cannot be closed in order, and is gone for Django all the same."""
    try:
        close()
    except Exception as error:  # noqa: BLE001 - drivers raise classes of their own
        logger.info("the connection %s did not close in order: %r", connection.alias, error)
