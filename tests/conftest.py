"""Fixtures that every folder of tests may use; `harness/fixtures.py` has them, servers start at first use."""

from __future__ import annotations

pytest_plugins = ["tests.harness.fixtures"]
