"""Apps that patch the standard library are refused by the library's name."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from turbo.cli.green_threads import refuse_patched
from turbo.exceptions import ImproperlyConfigured


@pytest.mark.parametrize(
    ("library", "module", "attribute"),
    [("gevent", "gevent.monkey", "saved"), ("eventlet", "eventlet.patcher", "already_patched")],
)
def test_a_patched_standard_library_is_named(library: str, module: str, attribute: str) -> None:
    refuse_patched({module: SimpleNamespace(**{attribute: {}})})
    refuse_patched({module: SimpleNamespace()})
    with pytest.raises(ImproperlyConfigured, match=rf"{library} has patched .*\(select, socket\).*--pool {library}"):
        refuse_patched({module: SimpleNamespace(**{attribute: {"socket": {}, "select": {}}})})


def test_this_process_is_not_patched() -> None:
    refuse_patched()
