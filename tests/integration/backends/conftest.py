"""An empty database of each kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.mariadb import MariaDB
from tests.harness.postgres import Postgres
from tests.integration.backends.databases import Place


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty database of each kind in turn."""
    if request.param == "sqlite":
        return Place("sqlite", f"sqlite:///{tmp_path / 'results.db'}")
    if request.param == "postgresql":
        postgres: Postgres = request.getfixturevalue("postgres")
        return Place("postgresql", postgres.url(postgres.new_database()))
    mariadb: MariaDB = request.getfixturevalue("mariadb")
    return Place("mariadb", mariadb.url(mariadb.new_database()))
