"""Names of users and groups, and masks; becoming another user is shown by a worker that does."""

from __future__ import annotations

import pytest

from turbo.cli import privileges
from turbo.exceptions import ImproperlyConfigured


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"uid": "no-such-user"}, "--uid no-such-user"),
        ({"uid": "4000000000"}, "--uid 4000000000"),
        ({"gid": "no-such-group"}, "--gid no-such-group"),
        ({"umask": "999"}, "--umask 999"),
    ],
)
def test_what_is_refused(given: dict[str, str], said: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=said):
        privileges.take({"uid": None, "gid": None, "umask": None, **given})
