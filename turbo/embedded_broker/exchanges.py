"""The exchanges of the embedded broker: route by routing key or headers.

Takes a routing key and, for headers exchanges, the message's header table; returns destinations. Owned by the virtual
host; only that adds and removes bindings. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Union

if TYPE_CHECKING:
    from turbo.embedded_broker.queues import Queue

DIRECT, FANOUT, TOPIC, HEADERS = "direct", "fanout", "topic", "headers"
TYPES = frozenset({DIRECT, FANOUT, TOPIC, HEADERS})
#: Most routing keys whose destinations a topic exchange caches; producers use few.
_TOPIC_MEMORY = 1024

Destination = Union["Queue", "Exchange"]
HeadersOf = Callable[[], Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class Binding:
    """One binding. Two are the same if destination, key and arguments are."""

    destination: Destination
    routing_key: str
    arguments: Mapping[str, object]

    def same(self, other: Binding) -> bool:
        """Whether `other` is the same binding."""
        return (
            self.destination is other.destination
            and self.routing_key == other.routing_key
            and self.arguments == other.arguments
        )


@dataclass(eq=False)
class Exchange:
    """An exchange with its bindings."""

    name: str
    type: str
    durable: bool
    auto_delete: bool
    internal: bool
    arguments: Mapping[str, object]
    bindings: list[Binding] = field(default_factory=list)
    _topic_answers: dict[str, list[Destination]] = field(default_factory=dict)
    _by_key: dict[str, list[Destination]] = field(default_factory=dict)

    @property
    def alternate(self) -> str | None:
        """The exchange for messages that no binding matches."""
        name = self.arguments.get("alternate-exchange")
        return name if isinstance(name, str) else None

    def bind(self, binding: Binding) -> None:
        """Add a binding unless the same one exists."""
        if not any(binding.same(other) for other in self.bindings):
            self.bindings.append(binding)
            self._changed()

    def unbind(self, binding: Binding) -> bool:
        """Remove the same binding; return whether there was one."""
        return self._keep(lambda other: not binding.same(other))

    def forget(self, destination: Destination) -> bool:
        """Remove all bindings to a deleted destination; return whether there were any."""
        return self._keep(lambda other: other.destination is not destination)

    def route(self, routing_key: str, headers: HeadersOf) -> Iterable[Destination]:
        """Return the destinations of a message; one may occur more than once."""
        if self.type == DIRECT:
            return self._by_key.get(routing_key, ())
        if self.type == FANOUT:
            return [binding.destination for binding in self.bindings]
        if self.type == TOPIC:
            return self._route_topic(routing_key)
        table = headers()
        return [b.destination for b in self.bindings if headers_match(b.arguments, table)]

    def _route_topic(self, routing_key: str) -> list[Destination]:
        answer = self._topic_answers.get(routing_key)
        if answer is None:
            if len(self._topic_answers) >= _TOPIC_MEMORY:
                self._topic_answers.clear()
            words = _words(routing_key)
            answer = [b.destination for b in self.bindings if topic_matches(_words(b.routing_key), words)]
            self._topic_answers[routing_key] = answer
        return answer

    def _keep(self, wanted: Callable[[Binding], bool]) -> bool:
        before = len(self.bindings)
        self.bindings = [binding for binding in self.bindings if wanted(binding)]
        self._changed()
        return len(self.bindings) < before

    def _changed(self) -> None:
        self._topic_answers.clear()
        self._by_key.clear()
        for binding in self.bindings:
            self._by_key.setdefault(binding.routing_key, []).append(binding.destination)


def _words(key: str) -> list[str]:
    return key.split(".") if key else []  # an empty key has no words, so `*` does not match it


def topic_matches(pattern: list[str], words: list[str]) -> bool:
    """Whether a routing key's words match a pattern of `*` and `#`.

    `*` is one word, `#` any number of words.
    """
    reachable = {0}  # numbers of words that the pattern so far can match
    for part in pattern:
        if part == "#":
            reachable = set(range(min(reachable), len(words) + 1))
        else:
            reachable = {at + 1 for at in reachable if at < len(words) and part in ("*", words[at])}
        if not reachable:
            return False
    return len(words) in reachable


def headers_match(arguments: Mapping[str, object], headers: Mapping[str, object]) -> bool:
    """Whether headers match a binding's arguments under its `x-match` rule."""
    rule = arguments.get("x-match", "all")
    with_x = rule in ("all-with-x", "any-with-x")
    wanted = {
        name: value for name, value in arguments.items() if name != "x-match" and (with_x or not name.startswith("x-"))
    }
    hits = (name in headers and (value is None or headers[name] == value) for name, value in wanted.items())
    return any(hits) if rule in ("any", "any-with-x") else all(hits)
