"""The state file of a process that is killed while it writes: always whole, the old one or the new one."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from turbo import failpoint
from turbo.control import state_file
from turbo.control.state_file import StateFile
from turbo.policy.revoked import Revoked
from turbo.protocol.clock import LogicalClock
from turbo.protocol.worker_state import load
from turbo.spawner.forking import fork

SITES = ["opened", "written", "synced", "replaced"]


def _write_on_and_on(path: Path, failpoints: str) -> None:
    failpoint.configure(failpoints)
    state_file._INTERVAL = 0.0
    revoked = Revoked()
    file = StateFile(str(path), revoked, LogicalClock())
    file.take_up()

    async def run() -> None:
        await file.start()
        for number in range(100_000):  # until it is killed, however long a busy disk takes for one write
            revoked.add([f"id-{number}"], 1e9)
            await asyncio.sleep(0.001)

    asyncio.run(run())


@pytest.mark.row("TM13")
@pytest.mark.parametrize("nth", [1, 2, 5])
@pytest.mark.parametrize("site", SITES)
def test_a_kill_at_any_step_leaves_a_whole_file(tmp_path: Path, site: str, nth: int) -> None:
    path = tmp_path / "state"
    pid = fork(lambda: _write_on_and_on(path, f"master.state_file.{site}=kill9@{nth}"))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    written = tmp_path / "state.turbo"
    if site != "replaced" and nth == 1:
        assert not written.exists()
    else:
        ids = load(written.read_bytes()).revoked
        assert ids == tuple(f"id-{number}" for number in range(len(ids)))
    # The next worker starts from it, whatever the killed one has left beside it.
    StateFile(str(path), Revoked(), LogicalClock()).take_up()
    assert load(written.read_bytes())
