"""Chords in Redis: how many parts a chord has, what those that have ended gave, and who sends its body.

Before it: clients, which say how large a chord is, and the processes in which its parts end: a child, or the master
for those that it ends itself. After it: nobody; the keys are Celery's, and workers of both kinds count the parts of the
same chord. Runs in clients and children, and on the master's hook thread; every call waits for Redis.

The keys, each behind the prefix and the id of the header's group: ``.s`` size; ``.t`` how many parts joined later;
``.j`` what the parts gave, in the order of the header (or of their ends); ``.d`` which parts are counted, so that one
that runs twice counts once; ``.c`` who sends the body, for a while, and later that it was sent. Where the header has
groups in it, the bare key holds how it was put together.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from turbo.backends.redis.wire import lifetime
from turbo.exceptions import DecodeError, OperationalError
from turbo.protocol.content import decode, encode
from turbo.protocol.ids import text_id

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

    from turbo.backends.reader_settings import ReaderSettings

_GROUP_KEY: Final = "celery-taskset-meta-"
#: Least seconds that the one who completes a chord has it to himself, and that it is known to be over.
_LEAST_CLAIM: Final = 5
_LEAST_MEMORY: Final = 300

#: KEYS: values, later parts, size, counted parts, structure, claim. ARGV: the part, who asks, what it gave, its place
#: in the header ("" for a list), lifetime of the counters, of the structure, of the claim.
#: Replies with one of ``Standing``.
_COUNT: Final = """
local claim = redis.call('GET', KEYS[6])
if claim == 'done' then return 3 end
if redis.call('SADD', KEYS[4], ARGV[1]) == 1 then
  if ARGV[4] == '' then redis.call('RPUSH', KEYS[1], ARGV[3])
  else redis.call('ZADD', KEYS[1], ARGV[4], ARGV[3]) end
end
if ARGV[5] ~= '0' then
  for n = 1, 4 do redis.call('EXPIRE', KEYS[n], ARGV[5]) end
  if ARGV[6] ~= '0' then redis.call('EXPIRE', KEYS[5], ARGV[6]) end
end
local size = redis.call('GET', KEYS[3])
if not size then return 0 end
local counted
if ARGV[4] == '' then counted = redis.call('LLEN', KEYS[1]) else counted = redis.call('ZCARD', KEYS[1]) end
if counted ~= tonumber(size) + tonumber(redis.call('GET', KEYS[2]) or 0) then return 0 end
if claim and claim ~= ARGV[2] then return 2 end
redis.call('SET', KEYS[6], ARGV[2], 'EX', ARGV[7])
return 1
"""

#: KEYS as above, without the structure. ARGV: who asks, how long it is known to be over.
_CLOSE: Final = """
local claim = redis.call('GET', KEYS[5])
if claim and claim ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[4])
redis.call('SET', KEYS[5], 'done', 'EX', ARGV[2])
return 1
"""


class Standing(enum.IntEnum):
    """How a chord stands when a part has been counted."""

    #: Other parts have not ended.
    OPEN = 0
    #: All have, and it is for the asker to go on.
    OURS = 1
    #: All have, and somebody else is going on.
    THEIRS = 2
    #: Its body was sent before.
    OVER = 3


def is_refused(error: OperationalError) -> bool:
    """Whether Redis has understood and will never do it, such as for keys of another kind. Else it may, later."""
    import redis  # belongs to the "redis" extra

    return type(error.__cause__) is redis.ResponseError


@dataclass(frozen=True, slots=True)
class Part:
    """One task of a chord's header."""

    task_id: str
    group_id: str
    #: Its place in the header; None: behind all that have one.
    index: int | None

    @property
    def name(self) -> str:
        """What is counted once, since two places of a header may hold the same id; also who completes a chord."""
        return f"{self.task_id}:{'+inf' if self.index is None else self.index}"


class RedisChords:
    """The chords of one app. ``ask`` runs a question against Redis and raises OperationalError when it cannot."""

    def __init__(
        self, ask: Callable[[Callable[[redis.Redis], Any]], Any], prefix: str, settings: ReaderSettings
    ) -> None:
        """``prefix`` stands before every key: the global one, as Celery joins it."""
        self._ask = ask
        self._prefix = prefix + _GROUP_KEY
        self._settings = settings
        expires = settings.expires if settings.chord_expires is None else settings.chord_expires
        self._lifetime = int(lifetime(expires))
        kept = int(lifetime(settings.expires))
        # What was saved of a header is read by users as well: no sooner gone than results.
        self._structure_lifetime = max(self._lifetime, kept) if self._lifetime and kept else 0
        self._claim = max(_LEAST_CLAIM, int((settings.chord_join_timeout or _LEAST_CLAIM) * 2))

    # -- who sends a chord -----------------------------------------------------------------------------------

    def set_size(self, group_id: str, size: int) -> None:
        """Say how many parts a chord has. A chord that is sent again begins anew."""
        key, claim = self._key(group_id, ".s"), self._key(group_id, ".c")

        def write(client: redis.Redis) -> None:
            with client.pipeline() as pipe:
                pipe.delete(claim)
                pipe.set(key, size, ex=self._lifetime or None)
                pipe.execute()

        self._ask(write)

    def extend(self, group_id: str) -> None:
        """One more part joins a chord that is under way."""
        key = self._key(group_id, ".t")
        self._ask(lambda client: client.incr(key, 1))

    def save_structure(self, group_id: str, structure: object) -> None:
        """Remember how a header with groups in it is put together: ``GroupResult.as_tuple()``."""
        self._write(group_id, structure, self._lifetime)

    # -- saved groups ----------------------------------------------------------------------------------------

    def save_group(self, group_id: str, structure: object) -> None:
        """Keep a group's structure as long as results: ``GroupResult.save``."""
        self._write(group_id, structure, int(lifetime(self._settings.expires)))

    def restore_group(self, group_id: str) -> Any | None:
        """Return what was saved of a group or a header, None if nothing is there. Raises DecodeError."""
        stored = self._ask(lambda client: client.get(self._key(group_id)))
        if stored is None:
            return None
        document = self._decode(stored)
        if not isinstance(document, dict):
            raise DecodeError(f"what is stored of group {group_id} is no document")
        return document.get("result")

    def delete_group(self, group_id: str) -> None:
        """Forget what was saved of a group."""
        self._ask(lambda client: client.delete(self._key(group_id)))

    # -- who ends a part -------------------------------------------------------------------------------------

    def encode(self, part: Part, state: str, result: object) -> bytes:
        """Return what a part gave as it is kept; an exception as its document. Raises EncodeError."""
        return encode([1, part.task_id, state, result], self._settings.serializer)[0]

    def count(self, part: Part, gave: bytes) -> Standing:
        """Count a part that has ended, unless it was before. Of those who complete the chord one gets ``OURS``.

        Who asks again for the same part gets it again: it may have been killed with the body not yet sent.
        """
        keys = [self._key(part.group_id, end) for end in (".j", ".t", ".s", ".d", "", ".c")]
        place = ("+inf" if part.index is None else str(part.index)) if self._settings.chord_ordered else ""
        values: list[str | bytes | int] = [
            part.name, part.name, gave, place, self._lifetime, self._structure_lifetime, self._claim,
        ]  # fmt: skip
        return Standing(self._ask(lambda client: client.register_script(_COUNT)(keys, values)))

    def results(self, group_id: str) -> list[tuple[str, str, Any]]:
        """Return id, state and result of every part that was counted, in order. Raises DecodeError."""
        key = self._key(group_id, ".j")
        if self._settings.chord_ordered:
            stored = self._ask(lambda client: client.zrange(key, 0, -1))
        else:
            stored = self._ask(lambda client: client.lrange(key, 0, -1))
        found = []
        for each in stored:
            values = self._decode(each)
            if not isinstance(values, (list, tuple)) or len(values) != 4:
                raise DecodeError(f"what is stored of a part of chord {group_id} is none")
            found.append((str(values[1]), str(values[2]), values[3]))
        return found

    def close(self, part: Part) -> None:
        """The body is sent, and with the broker: forget the counters, and count nothing late."""
        keys = [self._key(part.group_id, end) for end in (".j", ".t", ".s", ".d", ".c")]
        memory = max(self._claim * 2, _LEAST_MEMORY)
        self._ask(lambda client: client.register_script(_CLOSE)(keys, [part.name, memory]))

    def give_up(self, part: Part) -> None:
        """The body has failed: no part completes the chord again."""
        self._ask(lambda client: client.delete(self._key(part.group_id, ".s")))

    # -- inside ----------------------------------------------------------------------------------------------

    def _key(self, group_id: str, end: str = "") -> str:
        return f"{self._prefix}{text_id(group_id)}{end}"

    def _write(self, group_id: str, structure: object, seconds: int) -> None:
        document = encode({"result": structure}, self._settings.serializer)[0]
        key = self._key(group_id)
        self._ask(lambda client: client.set(key, document, ex=seconds or None))

    def _decode(self, stored: bytes) -> Any:
        settings = self._settings
        return decode(stored, settings.content_type, settings.content_encoding, settings.accept)
