"""Draws what refers to the master's objects of one type, for ``objgraph``.

For finding memory leaks.

Used by ``native.commands`` and ``adopted.commands`` on remote control's thread. It needs the package objgraph and the
program ``dot`` of Graphviz, neither of which turbo installs. Reply and error are Celery's. It must never keep a
reference to an object that it drew.
"""

from __future__ import annotations

import importlib
import logging
from typing import Any

logger = logging.getLogger("celery.worker.control")


def draw(num: int = 200, max_depth: int = 10, type: str = "Request") -> dict[str, str]:
    """Draw ``num`` objects of class ``type`` and what refers to them.

    Return the picture's file. Raises ImportError without objgraph, and RuntimeError without ``dot``, for which Celery
    names an empty file.
    """
    try:
        objgraph: Any = importlib.import_module("objgraph")
    except ImportError:
        raise ImportError("Requires the objgraph library") from None
    import shutil  # these two are needed here alone, and take 0.2 MB
    import tempfile

    if shutil.which("dot") is None:
        raise RuntimeError("Requires dot, a program of Graphviz")
    logger.info("Dumping graph for type %.100r", type)
    with tempfile.NamedTemporaryFile(prefix="cobjg", suffix=".png", delete=False) as file:
        found = objgraph.by_type(type)[: int(num)]
        objgraph.show_backrefs(
            found, max_depth=int(max_depth), highlight=lambda each: any(each is one for one in found),
            filename=file.name,
        )  # fmt: skip
        return {"filename": file.name}
