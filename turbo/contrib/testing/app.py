"""An app for a test, and what keeps one test's app from the next.

Used in the process of the tests, by the fixtures of ``turbo.contrib.pytest`` or by a program's own.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NoReturn

from turbo import current
from turbo.app.base import Turbo

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Settings of a test's app, unless it has others.
DEFAULT_TEST_CONFIG: Final[dict[str, Any]] = {
    "accept_content": ["json"],
    "enable_utc": True,
    "result_backend": "rpc://",
    "timezone": "UTC",
    "worker_log_color": False,
}


class Trap:
    """Stands in for the current app; every use of it raises RuntimeError."""

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise RuntimeError("Test depends on current_app")


def TestApp(
    name: str | None = None,
    config: Mapping[str, Any] | None = None,
    enable_logging: bool = False,
    set_as_current: bool = False,
    log: Any = None,
    backend: str | None = None,
    broker: str | None = None,
    **kwargs: Any,
) -> Turbo:
    """Return an app with the settings ``config``.

    ``kwargs`` are further arguments of ``Turbo``. ``enable_logging`` and ``log`` have no effect: no app changes the
    logging of the process that tests run in.
    """
    app = Turbo(name or "turbo.tests", set_as_current=set_as_current, broker=broker, backend=backend, **kwargs)
    app.add_defaults({**DEFAULT_TEST_CONFIG, **(config or {})})
    return app


TestApp.__test__ = False  # type: ignore[attr-defined]  # no test, although pytest finds it by its name


@contextmanager
def set_trap(app: Any) -> Iterator[None]:
    """In the block, whoever uses the current app gets RuntimeError."""
    with current.isolated_apps():
        current.set_current_app(Trap())
        yield


@contextmanager
def setup_default_app(app: Any, use_trap: bool = False) -> Iterator[None]:
    """Undo at the end of the block what it did to the current app and to shared tasks.

    Then close ``app``.
    """
    try:
        with current.isolated_apps():
            if use_trap:
                with set_trap(app):
                    yield
            else:
                yield
    finally:
        app.close()
