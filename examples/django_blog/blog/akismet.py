"""A client for two calls of Akismet's API: https://akismet.com/developers."""

from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

#: Timeout in seconds. Without one, a task could occupy a child forever.
PATIENCE = 10


class Unreachable(Exception):
    """Akismet did not answer, or not in time."""


class Akismet:
    """The service at ``url``, called with ``key`` for the blog ``site``."""

    def __init__(self, url: str, key: str, site: str) -> None:
        self._url = url.rstrip("/")
        self._given = {"api_key": key, "key": key, "blog": site}

    def verify_key(self) -> bool:
        """Return whether the key is valid."""
        return self._ask("verify-key", {}) == "valid"

    def comment_check(self, **comment: str | None) -> bool:
        """Return whether a comment is spam."""
        return self._ask("comment-check", comment) == "true"

    def _ask(self, question: str, details: dict[str, str | None]) -> str:
        form = {name: value for name, value in {**self._given, **details}.items() if value is not None}
        try:
            with urlopen(f"{self._url}/1.1/{question}", urlencode(form).encode(), timeout=PATIENCE) as answer:
                return answer.read().decode().strip()
        except (URLError, TimeoutError) as error:
            raise Unreachable(f"{question}: {error}") from error
