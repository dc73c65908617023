"""Runs the master and its companions on an event loop.

Between ``worker.wiring``, which has forked the spawner, and ``master.main``. The master imports this module after the
fork, so that spawner and children do not have the connections, remote control and the rest of the master in their
memory. It must never be imported before the fork.
"""

from __future__ import annotations

import asyncio
import gc
from dataclasses import replace
from typing import TYPE_CHECKING

import uvloop

from turbo.control.service import RemoteControl
from turbo.control.state_file import StateFile
from turbo.master.main import Master
from turbo.worker.beat_process import BeatProcess
from turbo.worker.heartbeat_file import HeartbeatFile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from turbo.control.app_commands import AppCommands
    from turbo.control.options import ControlOptions
    from turbo.hosting import HostedApp
    from turbo.master.blueprint import Blueprint
    from turbo.policy.worker_lifecycle import Request
    from turbo.spawner.handle import Spawner


def run(
    app: HostedApp,
    blueprint: Blueprint,
    spawner: Spawner,
    control: ControlOptions,
    beat: Sequence[str],
    earlier: Sequence[Request],
) -> tuple[Master, int]:
    """Run the master until the worker ends; return it and its exit code."""
    blueprint = replace(blueprint, hooks=app.hooks(blueprint.options))
    commands = app.commands(blueprint.options)
    # As before the fork: what was imported stays, so a collection need not look at it.
    gc.collect()
    gc.freeze()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_main(blueprint, spawner, commands, control, beat, earlier))


async def _main(
    blueprint: Blueprint,
    spawner: Spawner,
    commands: AppCommands,
    control: ControlOptions,
    beat: Sequence[str],
    earlier: Sequence[Request],
) -> tuple[Master, int]:
    loop = asyncio.get_running_loop()
    master = Master(blueprint, spawner, loop)
    remote = RemoteControl(master, commands, control, loop)
    master.add_companion(remote)
    if blueprint.options.state_db:
        state = StateFile(blueprint.options.state_db, master.parts.revoking.revoked, remote.clock)
        state.take_up()
        # After remote control, whose last requests it is to write.
        master.add_companion(state)
    if blueprint.options.heartbeat_file is not None:
        # A worker that finishes its last tasks is alive, though it consumes nothing.
        alive = HeartbeatFile(blueprint.options.heartbeat_file, lambda: master.link.ready or master.asked_to_stop)
        master.add_companion(alive)
    if beat:
        master.add_companion(BeatProcess(beat, lambda: master.asked_to_stop))
    if master.parts.pool_restart is not None:
        master.add_companion(master.parts.pool_restart)
    try:
        return master, await master.run(earlier)
    finally:
        master.parts.spawners.close()
