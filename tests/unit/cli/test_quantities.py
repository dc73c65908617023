"""Amounts as operators write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from turbo.cli.cgroup import cpu_limit
from turbo.cli.quantities import children, kib, shown_kib, usable_cpus


@pytest.mark.row("CL14")
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, None),
        (0, None),
        (12000, 12000),
        ("12000", 12000),
        ("512MB", 524288),
        ("512M", 524288),
        ("1.5G", 1572864),
        ("1GiB", 1048576),
        ("64k", 64),
        ("2048b", 2),
        (" 1 tb ", 1073741824),
    ],
)
def test_memory_is_in_kib_or_has_a_unit(given: object, expected: int | None) -> None:
    assert kib(given) == expected


@pytest.mark.parametrize("given", ["lots", "12X", "-5", -5, "5i", True, [1]])
def test_other_amounts_are_refused(given: object) -> None:
    with pytest.raises(ValueError, match="512MB"):
        kib(given)


@pytest.mark.parametrize(("given", "shown"), [(512, "512 KiB"), (524288, "512 MiB"), (1572864, "1.5 GiB")])
def test_memory_is_shown_with_a_unit(given: int, shown: str) -> None:
    assert shown_kib(given) == shown


@pytest.mark.row("CL1", "PL1")
@pytest.mark.parametrize(("given", "expected"), [(None, None), (0, None), ("auto", None), ("4", 4), (8, 8)])
def test_children(given: object, expected: int | None) -> None:
    assert children(given) == expected


@pytest.mark.parametrize("given", ["four", -1, "-1", 2.5, True])
def test_other_numbers_of_children_are_refused(given: object) -> None:
    with pytest.raises(ValueError, match="number of children"):
        children(given)


@pytest.mark.row("PL1")
@pytest.mark.parametrize(
    ("text", "expected"),
    [("max 100000", 6), ("200000 100000", 2), ("150000 100000", 2), ("1000 100000", 1), ("", 6)],
)
def test_cpus_are_those_of_the_affinity_and_the_quota(
    text: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(6)))
    (tmp_path / "cgroup").write_text("0::/\n")
    (tmp_path / "cpu.max").write_text(text)
    monkeypatch.setattr("turbo.cli.quantities.cpu_limit", lambda: cpu_limit(tmp_path / "cgroup", tmp_path))
    assert usable_cpus() == expected
