"""All scenarios, by subject."""

from __future__ import annotations

from tests.scenarios.rows import acks, canvas, messages, serial, tasks

ALL = (*acks.ROWS, *tasks.ROWS, *messages.ROWS, *canvas.ROWS)
SERIAL = serial.ROWS
