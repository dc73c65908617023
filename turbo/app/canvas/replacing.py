"""What ``Task.replace`` and ``Task.add_to_chord`` do: put another call in the place of the one that runs, or beside it.

Runs in children, called by the program's own code, and wherever a task is run in the caller's process. What takes the
place has the id, the group, the chord and the callbacks of what it replaces, and the rest of its chain: whoever waits
for the one gets the result of the other.
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
    from turbo.app.base import Turbo
    from turbo.app.task import Task


def replacement(task: Task, sig: Any) -> Any:
    """Return ``sig`` with all that the current call has, as ``Task.replace`` sends it."""
    request, app = task.request, task.app
    if "chord" in sig.options:
        raise ImproperlyConfigured("A signature replacing a task must not be part of a chord")
    if isinstance(sig, chain) and not sig.tasks:
        raise ImproperlyConfigured("Cannot replace with an empty chain")
    if isinstance(sig, group):
        sig = sig | _gathered(app)
    elif isinstance(sig, chain) and isinstance(sig.tasks[-1], group):
        sig.tasks[-1] = sig.tasks[-1] | _gathered(app)
    for callback in request.callbacks or ():
        sig.link(callback)
    for errback in request.errbacks or ():
        sig.link_error(errback)
    if isinstance(sig, chain):
        # What is linked to the end of the chain must not move to the end of what is added to it below.
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


def send_replacement(task: Task, sig: Any) -> Any:
    """Send a replacement and raise Ignore; in an eager call, run it and return its result."""
    if task.request.is_eager:
        return sig.apply().get(disable_sync_subtasks=False)
    sig.delay()
    raise Ignore("Replaced by new task")


def add_to_chord(task: Task, sig: Any, lazy: bool) -> Any:
    """Do what ``Task.add_to_chord`` says, with the same arguments."""
    request = task.request
    if not request.chord:
        raise ValueError("Current task is not member of any chord")
    sig.set(
        group_id=request.group, group_index=request.group_index, chord=request.chord, root_id=request.root_id
    )  # fmt: skip
    sig.freeze()
    chords_of(task.backend).extend(request.group)
    return sig if lazy else sig.delay()


def _gathered(app: Turbo) -> Signature:
    """Return the call that gives the results of a group as one result: only such a one can have a group's callbacks."""
    return Signature("celery.accumulate", kwargs={"index": 0}, app=app)
