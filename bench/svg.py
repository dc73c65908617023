"""Bar charts as SVG text: one bar a contender, its length the median, a dot for every round."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_WIDTH, _LEFT, _RIGHT, _ROW, _TOP = 790, 180, 110, 34, 54
_OURS, _THEIRS, _INK, _FAINT = "#0b6e4f", "#8a9ba8", "#1c2429", "#dfe5e8"


@dataclass(frozen=True, slots=True)
class Bar:
    """One contender: the ``median`` of its ``rounds``; ``ours`` is drawn in the accent colour."""

    label: str
    median: float
    rounds: tuple[float, ...]
    ours: bool


def figure(value: float) -> str:
    """A number as people read it: three significant digits, thousands separated."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def bars(title: str, unit: str, rows: Sequence[Bar]) -> str:
    """The chart; lengths are proportional, from zero."""
    height = _TOP + _ROW * len(rows) + 16
    room = _WIDTH - _LEFT - _RIGHT
    most = max((max((row.median, *row.rounds)) for row in rows), default=0) or 1
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" '
        f'height="{height}" font-family="system-ui, sans-serif" font-size="13" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{height}" rx="6" fill="#ffffff"/>',
        _text(16, 26, title, weight="600", size=15),
        _text(_WIDTH - 16, 26, unit, anchor="end"),
    ]
    for number, row in enumerate(rows):
        top = _TOP + number * _ROW
        middle = top + 11
        length = max(room * row.median / most, 1)
        colour = _OURS if row.ours else _THEIRS
        furthest = max(room * max(row.rounds, default=0) / most, length)
        parts.append(f'<rect x="{_LEFT}" y="{top}" width="{room}" height="22" fill="{_FAINT}" opacity="0.35"/>')
        parts.append(f'<rect x="{_LEFT}" y="{top}" width="{length:.1f}" height="22" fill="{colour}"/>')
        parts.append(_text(_LEFT - 10, middle + 4, row.label, anchor="end", weight="600" if row.ours else "400"))
        parts.append(_text(_LEFT + furthest + 10, middle + 4, figure(row.median)))
        parts += [
            f'<circle cx="{_LEFT + room * value / most:.1f}" cy="{middle}" r="3" fill="#ffffff" '
            f'stroke="{_INK}" stroke-width="1"/>'
            for value in row.rounds
        ]
    parts.append("</svg>\n")
    return "\n".join(parts)


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "400", size: int = 13) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" font-size="{size}" '
        f'fill="{_INK}">{escape(text)}</text>'
    )
