"""``Panel``: the commands that programs add, as in ``turbo.worker.control``.

Filled while the program's modules are imported; read in the master by ``native.commands`` for a request that names
none of the worker's own commands. It must never import anything of the worker: tasks' modules are imported in web
processes too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

#: A command: takes the worker's state, then the arguments of the request by name; returns the reply.
Command = TypeVar("Command", bound="Callable[..., Any]")


class CommandInfo(NamedTuple):
    """The description of a command for command lines.

    With Celery's fields in their order.
    """

    alias: str | None
    type: str
    visible: bool
    default_timeout: float
    help: str
    signature: str | None
    args: Any
    variadic: str | None


class Panel:
    """All commands of this process's programs by name, and their descriptions."""

    data: ClassVar[dict[str, Callable[..., Any]]] = {}
    meta: ClassVar[dict[str, CommandInfo]] = {}

    @classmethod
    def register(
        cls,
        fun: Command | None = None,
        *,
        name: str | None = None,
        alias: str | None = None,
        type: str = "control",
        visible: bool = True,
        default_timeout: float = 1.0,
        help: str | None = None,
        signature: str | None = None,
        args: Any = None,
        variadic: str | None = None,
    ) -> Any:
        """Add ``fun`` as the command ``name`` and ``alias``, or return a decorator.

        The default name is the function's own. The rest is for command lines: ``default_timeout`` in seconds, ``args``
        pairs of names and converters, ``variadic`` the argument that takes all values, ``help`` the docstring's first
        line unless given.
        """

        def add(fun: Command) -> Command:
            called = name or fun.__name__
            said = help or (fun.__doc__ or "").strip().split("\n")[0]
            cls.data[called] = fun
            cls.meta[called] = CommandInfo(alias, type, visible, default_timeout, said, signature, args, variadic)
            if alias:
                cls.data[alias] = fun
            return fun

        return add if fun is None else add(fun)


def control_command(**options: Any) -> Any:
    """Return a decorator that adds a command which changes something.

    Options are those of ``Panel.register``.
    """
    return Panel.register(type="control", **options)


def inspect_command(**options: Any) -> Any:
    """Return a decorator that adds a read-only command.

    Options are those of ``Panel.register``.
    """
    return Panel.register(type="inspect", **options)
