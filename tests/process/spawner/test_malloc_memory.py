"""The memory that a worker's malloc returns or retains after large bodies."""

from __future__ import annotations

import os
import subprocess
import sys

ROUNDS = 100
#: Allocates and frees a megabyte again and again; says how many pages the kernel had to provide.
SCRIPT = f"""
import resource
from turbo.spawner import kernel
kernel.keep_freed_memory()

def round():
    first = b"x" * 1_000_000
    second = first[600:]
    third = bytearray(second)

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

round()
before = faults()
for _ in range({ROUNDS}):
    round()
print(faults() - before)
"""


def faults(**tuned: str) -> int:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**env, **tuned},
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
    )
    return int(run.stdout)


def test_a_freed_body_s_memory_serves_the_next() -> None:
    assert faults() < ROUNDS


def test_who_has_tuned_malloc_keeps_it() -> None:
    assert faults(MALLOC_TRIM_THRESHOLD_="131072", MALLOC_MMAP_THRESHOLD_="131072") > 100 * ROUNDS
