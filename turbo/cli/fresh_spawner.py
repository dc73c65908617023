"""Imports a worker's app again, in a process that then makes its children.

The master executes ``python -m turbo.cli.fresh_spawner`` when its pool restarts. The app goes through the same steps as
at the worker's start, with the same command line; what the main process has decided (options, queues, settings that
both sides read) stays. It must never parse a command line, open a pidfile or connect to the broker.
"""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import setproctitle

from turbo.app.conf.extras import check as check_extras
from turbo.app.conf.loading import import_module, working_directory
from turbo.cli.app_option import FoundApp, find_app
from turbo.cli.green_threads import refuse_patched
from turbo.cli.worker_settings import log_setup, write_into
from turbo.exceptions import ImproperlyConfigured
from turbo.master import os_signals
from turbo.spawner.fresh_process import become_spawner
from turbo.spawner.fresh_start import FreshStart, FreshStartFailed
from turbo.worker import wiring

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from turbo.child.options import ChildOptions
    from turbo.policy.worker_options import WorkerOptions
    from turbo.spawner.messages import ChildBoot

_MODULE: Final = "turbo.cli.fresh_spawner"
#: A place that can be imported: package.module, with or without an attribute.
_IMPORTABLE: Final = re.compile(r"[\w.]+(:[\w.()]+)?")


@dataclass(frozen=True, slots=True)
class Brief:
    """What the other process needs to import the same app in the same way."""

    where: str
    given: Mapping[str, Any]
    options: WorkerOptions
    #: The directory in which the app was found first; None if it is gone.
    directory: str | None
    path: tuple[str, ...]
    arguments: tuple[str, ...]
    child: ChildOptions | None = None
    result_backend: str | None = None
    #: Modules to import besides those of the app.
    modules: tuple[str, ...] = ()


def brief(found: FoundApp, given: Mapping[str, Any], options: WorkerOptions) -> Brief:
    """Return what is known of the app when the worker's command has set it up."""
    here = working_directory()
    return Brief(
        found.where, given, options, str(here) if here else None, tuple(sys.path), tuple(sys.argv)
    )  # fmt: skip


def starter(known: Brief) -> wiring.FreshStarter:
    """Return the function that makes the function that starts the process."""

    def bind(child: ChildOptions, result_backend: str | None) -> Callable[[Sequence[str]], FreshStart]:
        def start(modules: Sequence[str]) -> FreshStart:
            if _IMPORTABLE.fullmatch(known.where) is None:
                raise FreshStartFailed(f"no other process can import the app {known.where}: no module has it")
            own = replace(known, child=child, result_backend=result_backend, modules=tuple(modules))
            return FreshStart(_command(), pickle.dumps(own))

        return start

    return bind


def _command() -> list[str]:
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001
    return [sys.executable, *flags, "-m", _MODULE]


def _set_up(packed: bytes) -> tuple[Callable[[ChildBoot], None], bytes]:
    """Import the app; return what runs in each child, and its packed tasks' options."""
    own: Brief = pickle.loads(packed)
    options, given = own.options, own.given
    setproctitle.setproctitle(f"[turbo: {options.hostname}:Spawner]")
    if own.directory is not None:
        os.chdir(own.directory)
    sys.path[:] = own.path
    sys.argv[:] = own.arguments
    os_signals.unblock()
    app = find_app(own.where).app
    conf = app.conf
    app.name_worker(options.hostname, given)
    write_into(conf, given)
    app.import_modules()
    for module in own.modules:
        import_module(module)
    refuse_patched()
    setup = log_setup(conf, options.loglevel, options.logfile)
    app.set_up_logging(setup, options.hostname)
    app.finalize()
    conf.check_supported()
    check_extras(conf, stores=app.stores_results)
    app.unsupported_features()
    app.prepare(options)
    if own.child is None:
        raise ImproperlyConfigured("the brief has no options of children")
    main, tasks = wiring.children(app, own.child, own.result_backend)
    return main, pickle.dumps(tasks)


if __name__ == "__main__":
    become_spawner(sys.argv[1:], _set_up)
