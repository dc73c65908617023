"""Reads the command line of ``turbo multi``: node names and their options.

Options are of all nodes or of single ones. Pure.

The rules are those of ``celery multi``: ``start 3`` means three nodes; ``-c:2 8`` is for the second node, ``-c:1-3 8``
for the first three of a number, ``-c:web,db 8`` for two of them by name. ``cli.multi`` starts and stops the nodes.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from turbo.cli.nodename import expand, host_codes
from turbo.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

#: Options of the whole command, which stand before the command's name.
_GLOBAL: Final = (
    "-A", "--app", "-b", "--broker", "--result-backend", "--loader", "--config", "--workdir", "-C", "--no-color",
    "-q", "--quiet",
)  # fmt: skip
_RANGE_PREFIX: Final = "celery"
#: Values of --cmd that mean a worker: the default of Celery, and the same with turbo.
_WORKERS: Final = ("-m celery worker --detach", "-m turbo worker --detach")
_NO_SUFFIX: Final = ('""', "''")

#: Options by their names with dashes; None: a flag.
Options = dict[str, str | None]


@dataclass(slots=True)
class CommandLine:
    """The words after ``turbo multi start``."""

    names: list[str] = field(default_factory=list)
    options: Options = field(default_factory=dict)
    #: Options of single nodes, by what stands after the colon.
    of_nodes: dict[str, Options] = field(default_factory=dict)
    #: Everything from ``--`` on.
    rest: list[str] = field(default_factory=list)


def read(words: Sequence[str]) -> CommandLine:
    """Read the words.

    A short option takes the next word as its value unless that begins with a dash.
    """
    found = CommandLine()
    words = [word for word in words if word]
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if word == "--":
            found.rest = list(words[position - 1 :])
            break
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            _put(found, name, value if equals else None)
        elif word.startswith("-"):
            has_value = position < len(words) and not words[position].startswith("-")
            _put(found, word, words[position] if has_value else None)
            position += has_value
        else:
            found.names.append(word)
    return found


def _put(found: CommandLine, name: str, value: str | None) -> None:
    option, colon, node = name.partition(":")
    options = found.of_nodes.setdefault(node, {}) if colon else found.options
    options[option] = value


@dataclass(frozen=True, slots=True)
class Node:
    """One worker: its full name, its options, and words for the end of its command."""

    name: str
    options: Mapping[str, str | None]
    rest: tuple[str, ...] = ()

    def expand(self, template: str) -> str:
        """Replace the codes of a template, such as ``%n``, the name.

        ``%h`` and ``%p`` are the full name, ``%d`` is the host.
        """
        name, _, host = self.name.partition("@")
        return expand(template, {"n": name, "N": name, "h": self.name, "p": self.name, "d": host})

    def option(self, *names: str) -> str:
        """Return the first of these options that is given, expanded. Raises KeyError."""
        for name in names:
            value = self.options.get(name)
            if value is not None:
                return self.expand(value)
        raise KeyError(names[0])

    def arguments(self) -> list[str]:
        """Return the words of its command, without the Python that runs it."""
        before: list[str] = []
        after: list[str] = []
        for name, value in self.options.items():
            words = after if name not in _GLOBAL else before
            if value is None:
                words.append(name)
            elif name.startswith("--"):
                words.append(f"{name}={self.expand(value)}")
            else:
                words += [name, self.expand(value)]
        return ["-m", "turbo", *before, "worker", "--detach", *after, *self.rest]


def nodes(line: CommandLine, host: str, defaults: Mapping[str, tuple[tuple[str, ...], str]]) -> list[Node]:
    """Return the nodes of a command line.

    ``host`` is this machine's name. ``defaults``: by option, the option's names and its value where none is given.
    Raises ImproperlyConfigured for an option of a node that is not there.
    """
    options = dict(line.options)
    if "--cmd" in options and options.pop("--cmd") not in _WORKERS:
        raise ImproperlyConfigured(
            "--cmd is not supported: each node is a `turbo worker`. Leave it out, or use `celery multi`"
        )
    appended = options.pop("--append", None) or ""
    prefix = options.pop("--prefix", None) or ""
    range_prefix = options.pop("--range-prefix", None) or _RANGE_PREFIX
    named_host = options.pop("--hostname", None) or options.pop("-n", None) or host
    suffix = options.pop("--suffix", None) or named_host
    suffix = "" if suffix in _NO_SUFFIX else suffix
    names, is_range = line.names, len(line.names) == 1 and line.names[0].isdigit()
    if is_range:
        names, prefix = [str(number + 1) for number in range(int(names[0]))], range_prefix
    own = _of_single_nodes(line.of_nodes, names, is_range=is_range)
    found = []
    for name in names:
        full = _full_name(name, prefix, suffix, host)
        key = next((key for key in (full, full.partition("@")[0], name) if key in own), None)
        merged: Options = {**options, **(own[key] if key is not None else {}), "-n": full}
        for alternatives, value in defaults.values():
            if not any(alternative in merged for alternative in alternatives):
                merged[alternatives[0]] = value
        node = Node(full, merged)
        found.append(Node(full, merged, (*line.rest, *shlex.split(node.expand(appended)))))
    return found


def _full_name(name: str, prefix: str, suffix: str, host: str) -> str:
    return expand(name if "@" in name else f"{prefix}{name}@{suffix}", host_codes(host))


def _of_single_nodes(given: Mapping[str, Options], names: Sequence[str], *, is_range: bool) -> dict[str, Options]:
    """Return the options of single nodes by the node's name."""
    own: dict[str, Options] = {}
    for key, options in given.items():
        for part in _parts(key, is_range=is_range):
            own.setdefault(_named(part, names, is_range=is_range), {}).update(options)
    return own


def _parts(key: str, *, is_range: bool) -> Iterator[str]:
    """Yield the parts of ``1,2`` and, where nodes are numbers, of ``1-3``."""
    for part in key.split(","):
        first, dash, last = part.partition("-")
        if is_range and dash and first.isdigit() and last.isdigit():
            yield from (str(number) for number in range(int(first), int(last) + 1))
        else:
            yield part


def _named(part: str, names: Sequence[str], *, is_range: bool) -> str:
    """Return the name of a node that is given by its place in the list."""
    if not part.isdigit() or is_range:
        return part
    place = int(part)
    if not 1 <= place <= len(names):
        raise ImproperlyConfigured(f"an option is for node {place}, and there are {len(names)} nodes, counted from 1")
    return names[place - 1]
