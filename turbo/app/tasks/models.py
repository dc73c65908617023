"""``pydantic=True``: validates arguments as models and dumps returned models.

Made once per task from the signature of its body; used in the child around the body, and in clients before a call is
sent. None is passed unchanged to optional parameters. Unions of several types and generics (``list[Model]``) are not
converted; pydantic recommends a RootModel for these. Needs pydantic 2, imported when the first such task is made.
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
    """Validates the arguments and dumps the result of one task body."""

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
        """Read the models from the annotations of ``fun``.

        ``context`` is passed to validators, with ``celery_app`` and ``celery_task_name`` added. ``dump_kwargs`` is
        passed to ``model_dump`` (default: ``mode="json"``). Raises ImproperlyConfigured when pydantic is not installed.
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
        """Return a function that validates arguments, calls the body, dumps the result.

        It raises pydantic's ValidationError for invalid arguments.
        """
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
        """Return a call's arguments with models dumped, for any serializer.

        A model is dumped only if validating the dump gives an equal model; any other is left to the serializer, which
        usually refuses it. ``bound``: the body's first parameter is the task itself, which callers do not pass.
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
        """Dump a model of the annotated return class; return any other value unchanged."""
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
        except Exception as error:  # noqa: BLE001 - validators are user code and may work only in a worker
            logger.debug("The model in argument %s could not be dumped and is left to the serializer: %r", name, error)
        return value


def _base_model(name: str) -> type[BaseModel]:
    try:
        from pydantic import BaseModel  # optional dependency, slow to import: only for tasks that use it
    except ModuleNotFoundError as error:
        if error.name != "pydantic":
            raise
        raise ImproperlyConfigured(
            f"{name}: pydantic=True needs pydantic: pip install 'turbo-worker[pydantic]'"
        ) from error
    return BaseModel


def _hints(fun: Callable[..., Any]) -> dict[str, Any]:
    """Return the resolved annotations of ``fun``.

    An empty dict if one cannot be resolved.
    """
    try:
        return typing.get_type_hints(fun)
    except (NameError, AttributeError, TypeError):
        return {}


def _without_none(annotation: Any) -> Any:
    """Return ``X`` for ``X | None``, any other annotation unchanged."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        others = [part for part in typing.get_args(annotation) if part is not _NONE]
        if len(others) == 1 and len(others) < len(typing.get_args(annotation)):
            return others[0]
    return annotation
