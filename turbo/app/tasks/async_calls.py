"""Awaitable versions of ``delay`` and ``apply_async``, for asyncio programs.

Base classes of ``app.task.Task`` and of signatures. A message is sent from a thread of the event loop's default
executor, so that the loop is not blocked while the broker confirms. Wait for a result with ``AsyncResult.aget``, which
needs no thread. asyncio is imported only when it is used: it is large, and most callers do not use it.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Generic

if TYPE_CHECKING:
    from typing_extensions import ParamSpec, TypeVar

    from turbo.result.async_result import AsyncResult

    P = ParamSpec("P", default=...)
    R = TypeVar("R", default=Any)
else:
    from typing import ParamSpec, TypeVar

    #: The parameters of the body (without a bound task) and its return type.
    P = ParamSpec("P")
    R = TypeVar("R")


class AsyncCalls(Generic[P, R]):
    """The awaitable calls of a task."""

    @abstractmethod
    def apply_async(
        self, args: Any = None, kwargs: Any = None, task_id: str | None = None, **options: Any
    ) -> AsyncResult[R]:
        """Send the call; blocks until the broker has confirmed it."""

    async def adelay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """Awaitable version of ``delay``."""
        return await self.aapply_async(args, kwargs)

    async def aapply_async(
        self, args: Any = None, kwargs: Any = None, task_id: str | None = None, **options: Any
    ) -> AsyncResult[R]:
        """Awaitable version of ``apply_async``.

        Sends from another thread, with a copy of this context's variables.
        """
        import asyncio

        return await asyncio.to_thread(self.apply_async, args, kwargs, task_id, **options)


class AsyncSignature:
    """The awaitable calls of a signature."""

    @abstractmethod
    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Send the call; blocks until the broker has confirmed it."""

    async def adelay(self, *args: Any, **kwargs: Any) -> Any:
        """Awaitable version of ``delay``."""
        return await self.aapply_async(args, kwargs)

    async def aapply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Awaitable version of ``apply_async``.

        Sends from another thread, as :meth:`AsyncCalls.aapply_async` does.
        """
        import asyncio

        return await asyncio.to_thread(self.apply_async, args, kwargs, **options)
