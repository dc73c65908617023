"""The captured messages of real Celery producers, for the tests of the protocol."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[2] / "golden"


@dataclass(frozen=True, slots=True)
class Golden:
    """One message: its bytes, and what Celery's own libraries decode from them (texts are reprs)."""

    name: str
    version: str
    header: bytes
    body: bytes
    headers: dict[str, str]
    properties: dict[str, Any]
    content: str

    def __repr__(self) -> str:
        return f"{self.version}-{self.name}"


def _read(path: Path) -> list[Golden]:
    found = json.loads(path.read_text())["messages"]
    return [
        Golden(
            path.stem if len(found) == 1 else f"{path.stem}-{number}",
            path.parent.name,
            base64.b64decode(one["header"]),
            base64.b64decode(one["body"]),
            one["headers"],
            one["properties"],
            one["content"],
        )
        for number, one in enumerate(found)
    ]


GOLDENS = [golden for path in sorted(FOLDER.glob("*/*.json")) for golden in _read(path)]


def golden(name: str, version: str = "5.7") -> Golden:
    return next(one for one in GOLDENS if (one.name, one.version) == (name, version))
