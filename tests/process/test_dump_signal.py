"""USR1 dumps the stacks and changes nothing else in the process."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import ctypes, errno, os, signal
from turbo.master import os_signals

os_signals.dump_on_request()
libc = ctypes.CDLL(None, use_errno=True)
for _ in range(3):
    # The signal arrives before the call returns, which leaves errno alone itself.
    ctypes.set_errno(errno.ENOENT)
    assert libc.kill(os.getpid(), signal.SIGUSR1) == 0
    print(errno.errorcode.get(ctypes.get_errno()))
"""


def test_a_dump_leaves_errno_as_it_was() -> None:
    """A system call that has failed at that moment still raises the error that the program expects."""
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.split() == ["ENOENT"] * 3
    assert run.stderr.count("most recent call first") == 3
