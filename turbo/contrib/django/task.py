"""``DjangoTask``: a task that can be sent on the commit of a transaction.

The class of every task in a Django project, unless the app names another. It only registers with Django's
transaction; what is sent then, and how, is ``Task``'s.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Concatenate, Literal, overload

from django.db import transaction

from turbo.app import shared
from turbo.app.task import Task
from turbo.app.tasks.async_calls import P, R

if TYPE_CHECKING:
    from collections.abc import Callable


class DjangoTask(Task[P, R]):
    """Base class of tasks in Django projects."""

    abstract = True

    def delay_on_commit(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Send the call when the transaction is committed, never if it is rolled back.

        Outside of one, at once. There is no handle, since nothing is sent yet. What ``delay`` raises is raised by the
        commit, which holds.
        """
        transaction.on_commit(functools.partial(self.delay, *args, **kwargs))

    def apply_async_on_commit(self, args: Any = None, kwargs: Any = None, **options: Any) -> None:
        """``apply_async`` on commit, as :meth:`delay_on_commit` is ``delay``."""
        transaction.on_commit(functools.partial(self.apply_async, args, kwargs, **options))


@overload
def shared_task(fun: Callable[P, R], /) -> DjangoTask[P, R]: ...


@overload
def shared_task(
    *, bind: Literal[True], **options: Any
) -> Callable[[Callable[Concatenate[Any, P], R]], DjangoTask[P, R]]: ...


@overload
def shared_task(**options: Any) -> Callable[[Callable[P, R]], DjangoTask[P, R]]: ...


def shared_task(fun: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """``turbo.shared_task`` for type checkers: with ``delay_on_commit``.

    Their class is DjangoTask whatever the app's is, unless ``base`` is given.
    """
    options.setdefault("base", DjangoTask)
    decorate: Callable[[Callable[..., Any]], Any] = shared.shared_task(**options)
    return decorate if fun is None else decorate(fun)
