"""Reports that a child has accepted a task, and the task's time limits.

Runs in a child, between an executor's decision to run a message and the body. It writes the control page, which the
master reads when a limit is due, and the STARTED record, on which the master acknowledges early and arms limits. It
must never report a body that does not follow.
"""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING

from turbo.policy import time_limits
from turbo.ring import frames

if TYPE_CHECKING:
    from collections.abc import Sequence

    from turbo.child.options import ChildOptions
    from turbo.child.time_limits import SoftLimit
    from turbo.policy.task_options import TaskOptions
    from turbo.ring.link import ChildLink

_NO_LIMITS = (None, None)


class Acceptance:
    """Reports the start of bodies, for one child."""

    def __init__(self, options: ChildOptions, link: ChildLink, soft: SoftLimit) -> None:
        self._options = options
        self._link = link
        self._soft = soft

    def announce(  # hot: bench drain
        self,
        seq: int,
        began: int,
        timelimit: Sequence[float | None] | None,
        limits: TaskOptions,
        *,
        early: bool,
        to_hooks: bool = False,
    ) -> None:
        """Write the control page and the STARTED record; the caller signals.

        ``timelimit`` is the message's [hard, soft] in seconds, ``began`` the ``time.monotonic_ns`` of the claim.
        ``early``: the message is acknowledged now. ``to_hooks``: the master passes the record to its outcome hooks.
        """
        options = self._options
        hard_given, soft_given = timelimit or _NO_LIMITS
        if (
            hard_given
            or soft_given
            or limits.time_limit
            or limits.soft_time_limit
            or options.time_limit
            or options.soft_time_limit
        ):
            hard = time_limits.effective(hard_given, limits.time_limit, options.time_limit)
            soft = time_limits.effective(soft_given, limits.soft_time_limit, options.soft_time_limit)
            now = monotonic_ns()
            soft_ns = now + int(soft * 1e9) if soft else 0
            hard_ns = now + int(hard * 1e9) if hard else 0
            self._soft.install()
            self._link.page.enter_body(seq, soft_ns, hard_ns, now)
            flags = frames.HAS_LIMITS | (frames.EARLY_ACK if early else 0) | (frames.START_FOR_HOOKS if to_hooks else 0)
            started = frames.pack_started(flags, soft_ns, hard_ns, hard or 0.0)
        else:
            self._link.page.enter_body(seq, 0, 0, began)
            started = frames.STARTED_EARLY if early else frames.STARTED_LATE
            if to_hooks:
                started = frames.pack_started(frames.START_FOR_HOOKS | (frames.EARLY_ACK if early else 0), 0, 0, 0.0)
        self._link.emit(frames.STARTED, seq, (started,))

    def admit(
        self,
        seq: int,
        timelimit: Sequence[float | None] | None,
        limits: TaskOptions,
        *,
        early: bool,
        to_hooks: bool = False,
    ) -> float | None:
        """Write the ADMITTED record of a coroutine; the caller signals. Returns its soft limit in seconds, if any.

        The control page names no coroutine, since several run at once. The child raises their soft limits itself. The
        master enforces the hard limits. While either exists, it also measures time in which the worker is stopped.
        """
        options = self._options
        hard_given, soft_given = timelimit or _NO_LIMITS
        hard = time_limits.effective(hard_given, limits.time_limit, options.time_limit)
        soft = time_limits.effective(soft_given, limits.soft_time_limit, options.soft_time_limit)
        flags = (frames.EARLY_ACK if early else 0) | (frames.HAS_LIMITS if hard or soft else 0)
        if to_hooks:
            flags |= frames.START_FOR_HOOKS
        now = monotonic_ns()
        soft_ns = now + int(soft * 1e9) if soft else 0
        hard_ns = now + int(hard * 1e9) if hard else 0
        self._link.emit(frames.ADMITTED, seq, (frames.pack_started(flags, soft_ns, hard_ns, hard or 0.0),))
        return soft or None
