"""Calling a task from a program on asyncio: the twins of ``delay`` and ``apply_async``.

Part of ``app.task.Task`` and of signatures. A message is sent from one of the event loop's default
threads, so that the loop goes on while the broker confirms; results are waited for with ``AsyncResult.aget``, which
takes no thread. It must never import asyncio before it is used: most callers are not on asyncio, and it is large.
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

    #: The parameters of the body, without the task itself, and what it returns.
    P = ParamSpec("P")
    R = TypeVar("R")


class AsyncCalls(Generic[P, R]):
    """A task's awaitable calls."""

    @abstractmethod
    def apply_async(
        self, args: Any = None, kwargs: Any = None, task_id: str | None = None, **options: Any
    ) -> AsyncResult[R]:
        """The blocking call."""

    async def adelay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """``delay`` for programs on asyncio."""
        return await self.aapply_async(args, kwargs)

    async def aapply_async(
        self, args: Any = None, kwargs: Any = None, task_id: str | None = None, **options: Any
    ) -> AsyncResult[R]:
        """``apply_async`` for programs on asyncio: sent from another thread, with this context's variables."""
        import asyncio

        return await asyncio.to_thread(self.apply_async, args, kwargs, task_id, **options)


class AsyncSignature:
    """A signature's awaitable calls."""

    @abstractmethod
    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """The blocking call."""

    async def adelay(self, *args: Any, **kwargs: Any) -> Any:
        """``delay`` for programs on asyncio."""
        return await self.aapply_async(args, kwargs)

    async def aapply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """``apply_async`` for programs on asyncio, sent as a task's is."""
        import asyncio

        return await asyncio.to_thread(self.apply_async, args, kwargs, **options)
