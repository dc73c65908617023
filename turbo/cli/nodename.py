"""Node names, and the ``%`` codes of ``-n``, ``-f`` and ``--pidfile``.

Runs in the command, before the worker starts. ``%i`` and ``%I``, a child's index, are left for ``log_format`` in the
child.
"""

from __future__ import annotations

import re
from typing import Final

_CODE: Final = re.compile(r"%(.)")


def expand(template: str, codes: dict[str, str]) -> str:
    """Replace each ``%x`` by ``codes["x"]`` and ``%%`` by a per cent sign.

    Leave unknown codes unchanged.
    """
    known = {"%": "%", "i": "%i", "I": "%I", **codes}
    return _CODE.sub(lambda found: known.get(found[1], found[0]), template)


def host_codes(host: str) -> dict[str, str]:
    """Return the codes of a host name.

    ``%h`` is the whole name, ``%n`` its first part, ``%d`` the rest.
    """
    name, _, domain = host.partition(".")
    return {"h": host, "n": name, "d": domain}


def node_name(given: str | None, host: str) -> str:
    """Return the worker's name: ``given``, completed from ``celery@host``.

    As in Celery, a name without ``@`` is the part after it: ``w1`` means ``celery@w1``. ``given`` may contain the codes
    of :func:`host_codes`.
    """
    before, at, after = (given or "").partition("@")
    if not at:
        before, after = "", before
    return expand(f"{before or 'celery'}@{after or host}", host_codes(host))


def file_name(template: str, node: str) -> str:
    """Expand the ``%`` codes in a path.

    ``%p`` is the node name, ``%n`` its name, ``%h`` its host, ``%d`` its domain.
    """
    name, _, host = node.partition("@")
    return expand(template, {**host_codes(host), "n": name, "p": node})
