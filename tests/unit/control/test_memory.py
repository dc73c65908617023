"""Samples of memory, beside Celery's own texts."""

from __future__ import annotations

import io
import re

import pytest
from celery.utils import debug

from turbo import Turbo
from turbo.control.memory import MemorySamples, shown
from turbo.native.commands import NativeCommands


@pytest.mark.row("RC15")
@pytest.mark.parametrize("size", [0, 1, 1023, 1024, 1536, 2**20, 54_853_632, 2**30 * 3 + 5, 2**41])
def test_sizes_are_shown_as_celery_shows_them(size: int) -> None:
    assert shown(size) == debug.humanbytes(size)


@pytest.mark.row("RC15")
def test_a_dump_has_celerys_form_and_forgets_its_samples() -> None:
    debug._mem_sample.clear()
    samples, theirs = MemorySamples(), io.StringIO()
    for _ in range(3):
        assert re.fullmatch(r"[\d.]+MB", samples.sample())
        debug.sample_mem()
    debug.memdump(file=theirs)

    def form(text: str) -> str:
        return re.sub(r"[\d.]+MB", "N", text)

    assert form(samples.dump(10)) == form(theirs.getvalue())
    assert form(samples.dump(10)) == "- rss (end): N.\n"
    for _ in range(30):
        samples.sample()
    assert samples.dump(10).count(">") == 10


@pytest.mark.row("RC15")
def test_the_commands_of_turbos_own_app() -> None:
    commands = NativeCommands(Turbo("a", set_as_current=False), "one@here", None)
    sample, dump = commands.find("memsample"), commands.find("memdump")
    assert sample is not None
    assert dump is not None
    assert sample() in dump(samples=1)
    assert "sample" not in dump(samples="3")
