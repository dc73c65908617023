"""A module that only `-I` names."""

from __future__ import annotations

from tests.integration.worker.rows_app import app


@app.task(name="rows.included")
def included() -> str:
    return "included"
