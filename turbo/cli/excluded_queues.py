"""Names queues of ``-X`` that do not exist, for the commands that take it.

Celery passes over such a name. Whoever has misspelt it consumes from the queue, or purges it, without knowing. Changes
nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from turbo.cli.suggestions import hint
from turbo.log_format import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from turbo.hosting import HostedApp


def unknown_excluded(app: HostedApp, excluded: Iterable[str], included: Iterable[str]) -> list[str]:
    """Return one line for each queue of ``-X`` that neither the app nor ``-Q`` has."""
    queues = app.client.amqp.queues
    known = {*queues, *queues.aliases, *included}
    return [
        f"-X {printable(name)} excludes nothing: there is no such queue{hint(name, known)}"
        for name in dict.fromkeys(excluded)
        if name not in known
    ]
