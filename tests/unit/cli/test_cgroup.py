"""The memory and CPU limits of a control group, and the default of a child's hard limit that follows from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from turbo.cli.cgroup import cpu_limit, memory_limit
from turbo.policy.recycling import default_hard_limit

MIB = 1024 * 1024
#: Membership, files below the mount with their contents, and the limit in MiB.
V2 = "0::/system.slice/worker.service\n"
V1 = "5:cpu,cpuacct:/x\n4:memory:/docker/abc\n0::/\n"
NONE_V1 = str(0x7FFFFFFFFFFFF000)
CASES = [
    (V2, {"system.slice/worker.service/memory.max": str(512 * MIB)}, 512),
    (V2, {"system.slice/worker.service/memory.max": "max", "system.slice/memory.max": str(900 * MIB)}, 900),
    (V2, {"system.slice/worker.service/memory.max": str(700 * MIB), "system.slice/memory.max": str(600 * MIB)}, 600),
    ("0::/\n", {"memory.max": str(256 * MIB)}, 256),
    ("0::/../outside\n", {"memory.max": str(256 * MIB)}, 256),
    (V2, {"system.slice/worker.service/memory.max": "max"}, None),
    (V2, {}, None),
    (V1, {"memory/docker/abc/memory.limit_in_bytes": str(300 * MIB)}, 300),
    (V1, {"memory/memory.limit_in_bytes": str(400 * MIB)}, 400),
    (V1, {"memory/docker/abc/memory.limit_in_bytes": NONE_V1, "memory/memory.limit_in_bytes": NONE_V1}, None),
    ("no such line\n", {}, None),
]


@pytest.mark.parametrize(("membership", "files", "expected"), CASES)
def test_the_lowest_limit_around_the_process_counts(
    membership: str, files: dict[str, str], expected: int | None, tmp_path: Path
) -> None:
    said, root = tmp_path / "cgroup", tmp_path / "fs"
    said.write_text(membership)
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    assert memory_limit(said, root) == (None if expected is None else expected * MIB)


CPU_CASES = [
    (V2, {"system.slice/worker.service/cpu.max": "150000 100000"}, 1.5),
    (V2, {"system.slice/worker.service/cpu.max": "max 100000", "system.slice/cpu.max": "400000 100000"}, 4),
    (V2, {"system.slice/worker.service/cpu.max": "400000 100000", "cpu.max": "50000 100000"}, 0.5),
    ("0::/\n", {"cpu.max": "200000 100000"}, 2),
    (V2, {"system.slice/worker.service/cpu.max": "max 100000"}, None),
    (V2, {"system.slice/worker.service/cpu.max": "nonsense"}, None),
    (V2, {}, None),
    (V1, {"cpu/x/cpu.cfs_quota_us": "300000", "cpu/x/cpu.cfs_period_us": "100000"}, 3),
    (V1, {"cpu/x/cpu.cfs_quota_us": "-1", "cpu/x/cpu.cfs_period_us": "100000"}, None),
    (V1, {"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "50000"}, 1),
    (V1, {"cpu/x/cpu.cfs_quota_us": "100000"}, None),
]


@pytest.mark.row("PL1")
@pytest.mark.parametrize(("membership", "files", "expected"), CPU_CASES)
def test_the_lowest_cpu_quota_around_the_process_counts(
    membership: str, files: dict[str, str], expected: float | None, tmp_path: Path
) -> None:
    said, root = tmp_path / "cgroup", tmp_path / "fs"
    said.write_text(membership)
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    assert cpu_limit(said, root) == expected


def test_no_list_of_groups_is_no_limit(tmp_path: Path) -> None:
    assert memory_limit(tmp_path / "missing", tmp_path) is None
    assert cpu_limit(tmp_path / "missing", tmp_path) is None


@pytest.mark.parametrize(
    ("group", "child"), [(100, None), (255, None), (256, 128), (512, 384), (1000, 800), (4096, 3276.8)]
)
def test_what_is_left_to_the_rest_of_the_worker(group: int, child: float | None) -> None:
    assert default_hard_limit(group * MIB) == (None if child is None else int(child * 1024))
