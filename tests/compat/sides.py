"""One run of a Celery client against one worker: what the client read, and the stored documents."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import redis

PREFIX = "case-"
_KEY = f"celery-task-meta-{PREFIX}"

#: What differs from run to run in documents, and what stands for it in comparisons.
_MASKS = (
    (r'"date_done": ?"[^"]+"', '"date_done": "<time>"'),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+(\+00:00)?", "<time>"),
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "<uuid>"),
    (r'"pid": ?\d+', '"pid": 0'),
    (r"gen\d+@", "gen0@"),
    (r'("expiration": ?)"\d+"', r'\1"<ms>"'),
)


@dataclass(frozen=True, slots=True)
class Side:
    """The outcomes by case, as a client read them, and the stored documents by case, as text."""

    outcomes: Mapping[str, dict[str, Any]]
    documents: Mapping[str, str]
    #: ``case STATE`` of every document that arrived while the client waited for some result.
    passed: frozenset[str]

    def value(self, case: str) -> Any:
        """Return the return value of a successful case."""
        outcome = self.outcomes[case]
        assert outcome["state"] == "SUCCESS", outcome
        return outcome["value"]


def stored(url: str) -> dict[str, str]:
    """Return every stored document whose id begins with the prefix, by the rest of its id."""
    with redis.Redis.from_url(url) as client:
        keys = [key.decode() for key in client.keys(f"{_KEY}*")]
        return {key.removeprefix(_KEY): client.get(key).decode() for key in keys}  # type: ignore[union-attr]


def masked(text: str) -> str:
    """Return a document without values that differ between runs; its traceback becomes a bool."""
    for pattern, replacement in _MASKS:
        text = re.sub(pattern, replacement, text)
    document = json.loads(text)
    if document["traceback"] is not None:
        assert "Traceback (most recent call last)" in document["traceback"] or "\n" not in document["traceback"].strip()
        document["traceback"] = "<traceback>"
    return json.dumps(document)


def differences(ours: object, theirs: object, path: str = "") -> list[str]:
    """Return the differences of two documents as ``path: theirs -> ours``; the order of keys counts."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        found = [] if list(ours) == list(theirs) else [f"{path}: keys {list(theirs)} -> {list(ours)}"]
        for key in ours.keys() & theirs.keys():
            found += differences(ours[key], theirs[key], f"{path}.{key}" if path else key)
        return sorted(found)
    # repr, because NaN is not equal to itself and 1 is equal to 1.0 and to True
    return [] if repr(ours) == repr(theirs) else [f"{path}: {theirs!r} -> {ours!r}"]
