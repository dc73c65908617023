"""``pydantic=True``: arguments become the models that the body's parameters are annotated with, results are dumped.

Made once when a task is made, from its body's signature; used in the child around the body, and in clients before a
call is sent. Optional parameters take None as it is; unions of several types and generics (``list[Model]``) are left
alone, for which pydantic's own advice is a RootModel. Needs pydantic 2, imported when the first such task is made.
"""

from __future__ import annotations

import functools
import inspect
import logging
import types
import typing
from typing import TYPE_CHECKING, Any, Final

from turbo.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic import BaseModel

logger = logging.getLogger(__name__)

_NONE: Final = type(None)


class Models:
    """What the models in one body's signature do to its arguments and its result."""

    def __init__(
        self,
        app: Any,
        fun: Callable[..., Any],
        name: str,
        *,
        strict: bool = False,
        context: Mapping[str, Any] | None = None,
        dump_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        """``context`` is what validators see, beside ``celery_app`` and ``celery_task_name``; ``dump_kwargs`` goes to
        ``model_dump``, whose mode is ``json`` unless it says otherwise.

        Raises ImproperlyConfigured when pydantic is not installed.
        """
        self._base = _base_model(name)
        self._fun = fun
        self._strict = strict
        self._context = {**(context or {}), "celery_app": app, "celery_task_name": name}
        self._dump = {"mode": "json", **(dump_kwargs or {})}
        self._signature = inspect.signature(fun)
        hints = _hints(fun)
        self._returned = _without_none(hints.get("return", self._signature.return_annotation))
        self._of: dict[str, type[BaseModel]] = {}
        self._optional: set[str] = set()
        for parameter in self._signature.parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                continue
            annotation = hints.get(parameter.name, parameter.annotation)
            model = _without_none(annotation)
            if self._is_model(model):
                self._of[parameter.name] = model
                if model is not annotation:
                    self._optional.add(parameter.name)

    def wrap(self) -> Callable[..., Any]:
        """The body with its arguments validated and its result dumped; raises what pydantic raises."""
        fun, bind, models, optional = self._fun, self._signature.bind, self._of, self._optional

        def validated(*args: Any, **kwargs: Any) -> inspect.BoundArguments:
            bound = bind(*args, **kwargs)
            given = bound.arguments
            for name in models.keys() & given.keys():
                if given[name] is not None or name not in optional:
                    given[name] = self._validated(name, given[name])
            return bound

        if inspect.iscoroutinefunction(fun):

            @functools.wraps(fun)
            async def run_coroutine(*args: Any, **kwargs: Any) -> Any:
                bound = validated(*args, **kwargs)
                return self._dumped(await fun(*bound.args, **bound.kwargs))

            return run_coroutine

        @functools.wraps(fun)
        def run(*args: Any, **kwargs: Any) -> Any:
            bound = validated(*args, **kwargs)
            return self._dumped(fun(*bound.args, **bound.kwargs))

        return run

    def sendable(self, args: Any, kwargs: Any, *, bound: bool) -> tuple[Any, Any]:
        """The arguments of a call with the models among them dumped, so that any serializer can carry them.

        Only a model that the body would get back as an equal one is dumped; any other is left for the serializer,
        which mostly refuses it. ``bound``: the body's first parameter is the task, which no caller gives.
        """
        arguments = (*(args or ()), *(kwargs or {}).values())
        if not any(isinstance(value, self._base) for value in arguments):
            return args, kwargs
        names = [
            parameter.name
            for parameter in self._signature.parameters.values()
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        ][1 if bound else 0 :]
        by_position = [
            self._sendable(names[index] if index < len(names) else "", value) for index, value in enumerate(args or ())
        ]
        by_name = {name: self._sendable(name, value) for name, value in (kwargs or {}).items()}
        return type(args)(by_position) if isinstance(args, (list, tuple)) else args, by_name

    # -- inside ------------------------------------------------------------------------------------------

    def _is_model(self, annotation: Any) -> bool:
        return inspect.isclass(annotation) and issubclass(annotation, self._base)

    def _validated(self, name: str, value: Any) -> Any:
        return self._of[name].model_validate(value, strict=self._strict, context=self._context)

    def _dumped(self, value: Any) -> Any:
        """A returned model of the annotated class, as plain data; anything else as it is."""
        if isinstance(value, self._base) and inspect.isclass(self._returned) and isinstance(value, self._returned):
            return value.model_dump(**self._dump)
        return value

    def _sendable(self, name: str, value: Any) -> Any:
        if not isinstance(value, self._base) or name not in self._of or hasattr(type(value), "__json__"):
            return value
        try:
            dumped = value.model_dump(**self._dump)
            if self._validated(name, dumped) == value:
                return dumped
        except Exception as error:  # noqa: BLE001 - a model's own code, some of which works in a worker only
            logger.debug("The model given as %s is sent as it is: %r", name, error)
        return value


def _base_model(name: str) -> type[BaseModel]:
    try:
        from pydantic import BaseModel  # an extra, and slow to import: only for tasks that ask for it
    except ModuleNotFoundError as error:
        if error.name != "pydantic":
            raise
        raise ImproperlyConfigured(
            f"{name}: pydantic=True needs pydantic: pip install 'turbo-worker[pydantic]'"
        ) from error
    return BaseModel


def _hints(fun: Callable[..., Any]) -> dict[str, Any]:
    """Annotations with those given as text resolved; none where a name in them cannot be found."""
    try:
        return typing.get_type_hints(fun)
    except (NameError, AttributeError, TypeError):
        return {}


def _without_none(annotation: Any) -> Any:
    """``X`` for ``X | None``, and any other annotation as it is."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        others = [part for part in typing.get_args(annotation) if part is not _NONE]
        if len(others) == 1 and len(others) < len(typing.get_args(annotation)):
            return others[0]
    return annotation
