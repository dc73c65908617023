"""Drawing objects: what a machine without the package is told."""

from __future__ import annotations

import sys

import pytest

from turbo.control.object_graph import draw


@pytest.mark.row("RC15")
def test_without_objgraph_the_error_is_celerys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "objgraph", None)
    with pytest.raises(ImportError, match="^Requires the objgraph library$"):
        draw()
