"""Node names and the ``%`` expansions of ``-n``, ``-f`` and ``--pidfile``, as Celery's users write them.

Runs in the command, before the worker starts. ``%i`` and ``%I`` are left for ``log_format``: only a child
knows its index.
"""

from __future__ import annotations

import re
from typing import Final

_CODE: Final = re.compile(r"%(.)")


def expand(template: str, codes: dict[str, str]) -> str:
    """Replace ``%x`` by its meaning; ``%%`` is a per cent sign and an unknown code stays as it is."""
    known = {"%": "%", "i": "%i", "I": "%I", **codes}
    return _CODE.sub(lambda found: known.get(found[1], found[0]), template)


def host_codes(host: str) -> dict[str, str]:
    """``%h`` the whole host name, ``%n`` its first part, ``%d`` the rest."""
    name, _, domain = host.partition(".")
    return {"h": host, "n": name, "d": domain}


def node_name(given: str | None, host: str) -> str:
    """The worker's name, ``celery@host`` by default, from where ``given`` takes what it lacks on a side of its ``@``.

    Without an ``@``, ``given`` is the part after it, as for Celery: ``w1`` is ``celery@w1``. It may hold the codes of
    :func:`host_codes`.
    """
    before, at, after = (given or "").partition("@")
    if not at:
        before, after = "", before
    return expand(f"{before or 'celery'}@{after or host}", host_codes(host))


def file_name(template: str, node: str) -> str:
    """A path filled in: ``%n`` the node's name, ``%h`` its host, ``%d`` its domain, ``%p`` all of it."""
    name, _, host = node.partition("@")
    return expand(template, {**host_codes(host), "n": name, "p": node})
