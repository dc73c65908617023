"""Implements ``Task.replace`` and ``Task.add_to_chord``.

Runs in children, called by task bodies, and wherever a task runs in the caller's process. A replacement gets the id,
group, chord, callbacks and remaining chain of the task that it replaces, so that code which waits for that task gets
the replacement's result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from turbo.app.canvas.call_form import several
from turbo.app.canvas.chain import chain
from turbo.app.canvas.group import group
from turbo.app.canvas.signature import Signature, signature
from turbo.exceptions import Ignore, ImproperlyConfigured
from turbo.result.group_result import chords_of

if TYPE_CHECKING:
    from turbo.app.interfaces import AppLike, TaskLike


def replacement(task: TaskLike, sig: Any) -> Any:
    """Return ``sig`` with the id, group, chord and callbacks of this request.

    It also gets the remaining chain. Raises ImproperlyConfigured for an empty chain, or for a signature that is part of
    a chord.
    """
    request, app = task.request, task.app
    if "chord" in sig.options:
        raise ImproperlyConfigured("A signature replacing a task must not be part of a chord")
    if isinstance(sig, chain) and not sig.tasks:
        raise ImproperlyConfigured("Cannot replace with an empty chain")
    if isinstance(sig, group):
        sig = sig | _accumulate(app)
    elif isinstance(sig, chain) and isinstance(sig.tasks[-1], group):
        sig.tasks[-1] = sig.tasks[-1] | _accumulate(app)
    for callback in request.callbacks or ():
        sig.link(callback)
    for errback in request.errbacks or ():
        sig.link_error(errback)
    if isinstance(sig, chain):
        # Attach the callbacks to the present last step: they must not move to a step that is added below.
        sig.tasks[-1].extend_list_option("link", several(sig.options.pop("link", None)))
    sig.freeze(request.id)
    nesting: dict[str, Any] = {"replaced_task_nesting": request.replaced_task_nesting + 1}
    sig.set(
        chord=request.chord, group_id=request.group, group_index=request.group_index, root_id=request.root_id, **nesting
    )  # fmt: skip
    for step in sig.tasks if isinstance(sig, chain) else ():
        step.set(**nesting)
    for step in reversed(request.chain or []):
        sig = sig | signature(step, app=app).set(**nesting)
    return sig


def send_replacement(task: TaskLike, sig: Any) -> Any:
    """Send a replacement and raise Ignore.

    In an eager call, run it and return its result.
    """
    if task.request.is_eager:
        return sig.apply().get(disable_sync_subtasks=False)
    sig.delay()
    raise Ignore("Replaced by new task")


def add_to_chord(task: TaskLike, sig: Any, lazy: bool) -> Any:
    """Implement ``Task.add_to_chord``; the arguments are the same."""
    request = task.request
    if not request.chord:
        raise ValueError("Current task is not member of any chord")
    sig.set(
        group_id=request.group, group_index=request.group_index, chord=request.chord, root_id=request.root_id
    )  # fmt: skip
    sig.freeze()
    chords_of(task.backend).extend(request.group)
    return sig if lazy else sig.delay()


def _accumulate(app: AppLike) -> Signature:
    """Return the call that collects a group's results.

    A group itself cannot have the replaced task's callbacks.
    """
    return Signature("celery.accumulate", kwargs={"index": 0}, app=app)
