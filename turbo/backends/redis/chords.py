"""Counts chords in Redis: their sizes, results, and who sends the body.

A part is a task of the header. Called by clients, which set the size, and by the process in which a part ends: a child,
or the master for parts that it ends itself. The keys are Celery's, so that workers of both kinds can count the parts of
the same chord. Runs in clients and children, and on the master's hook thread; every call waits for Redis.

The keys, each after the prefix and the id of the header's group: ``.s`` the size; ``.t`` how many parts were added
later; ``.j`` the results of the parts, in the order of the header (or in which they ended); ``.d`` the counted parts,
so that a part that runs twice counts once; ``.c`` the part that is sending the body (with an expiry), later ``done``.
If the header contains groups, the bare key holds its structure.
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
#: Minimum lifetimes in seconds: of the claim of the part that sends the body, and of ``done``.
_LEAST_CLAIM: Final = 5
_LEAST_MEMORY: Final = 300

#: KEYS: results, later parts, size, counted parts, structure, claim. ARGV: the part, the claimant, the encoded result,
#: the index in the header ("" for a list), the lifetimes of the counters, the structure and the claim.
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

#: KEYS as above, without the structure. ARGV: the claimant, the lifetime of ``done``.
_CLOSE: Final = """
local claim = redis.call('GET', KEYS[5])
if claim and claim ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[4])
redis.call('SET', KEYS[5], 'done', 'EX', ARGV[2])
return 1
"""


class Standing(enum.IntEnum):
    """The state of a chord after a part has been counted."""

    #: Other parts have not ended.
    OPEN = 0
    #: All parts have ended, and this one sends the body.
    OURS = 1
    #: All parts have ended, and another one is sending the body.
    THEIRS = 2
    #: The body was already sent.
    OVER = 3


def is_refused(error: OperationalError) -> bool:
    """Return whether Redis refuses the command permanently.

    It does for a key of another type.
    """
    import redis  # belongs to the "redis" extra

    return type(error.__cause__) is redis.ResponseError


@dataclass(frozen=True, slots=True)
class Part:
    """One task of a chord's header."""

    task_id: str
    group_id: str
    #: The index in the header; None sorts after all others.
    index: int | None

    @property
    def name(self) -> str:
        """The name under which the part is counted and claims the body.

        It contains id and index, since ids may repeat.
        """
        return f"{self.task_id}:{'+inf' if self.index is None else self.index}"


class RedisChords:
    """The chords of one app.

    ``ask`` calls a function with a Redis client and raises OperationalError when that fails.
    """

    def __init__(
        self, ask: Callable[[Callable[[redis.Redis], Any]], Any], prefix: str, settings: ReaderSettings
    ) -> None:
        """``prefix`` is the global key prefix, joined as Celery does."""
        self._ask = ask
        self._prefix = prefix + _GROUP_KEY
        self._settings = settings
        expires = settings.expires if settings.chord_expires is None else settings.chord_expires
        self._lifetime = int(lifetime(expires))
        kept = int(lifetime(settings.expires))
        # Users read a saved structure too, so it is kept at least as long as results.
        self._structure_lifetime = max(self._lifetime, kept) if self._lifetime and kept else 0
        self._claim = max(_LEAST_CLAIM, int((settings.chord_join_timeout or _LEAST_CLAIM) * 2))

    # -- called by the sender of a chord ---------------------------------------------------------------------

    def set_size(self, group_id: str, size: int) -> None:
        """Set the number of parts of a chord.

        Also resets the claim, so that a chord can be sent again.
        """
        key, claim = self._key(group_id, ".s"), self._key(group_id, ".c")

        def write(client: redis.Redis) -> None:
            with client.pipeline() as pipe:
                pipe.delete(claim)
                pipe.set(key, size, ex=self._lifetime or None)
                pipe.execute()

        self._ask(write)

    def extend(self, group_id: str) -> None:
        """Add one part to the size of a running chord."""
        key = self._key(group_id, ".t")
        self._ask(lambda client: client.incr(key, 1))

    def save_structure(self, group_id: str, structure: object) -> None:
        """Save the structure of a header with groups (``GroupResult.as_tuple()``)."""
        self._write(group_id, structure, self._lifetime)

    # -- saved groups ----------------------------------------------------------------------------------------

    def save_group(self, group_id: str, structure: object) -> None:
        """Save a group's structure for the lifetime of results.

        Called by ``GroupResult.save``.
        """
        self._write(group_id, structure, int(lifetime(self._settings.expires)))

    def restore_group(self, group_id: str) -> Any | None:
        """Return the saved structure of a group or header, or None. Raises DecodeError."""
        stored = self._ask(lambda client: client.get(self._key(group_id)))
        if stored is None:
            return None
        document = self._decode(stored)
        if not isinstance(document, dict):
            raise DecodeError(f"the stored value of group {group_id} is not a document")
        return document.get("result")

    def delete_group(self, group_id: str) -> None:
        """Delete the saved structure of a group."""
        self._ask(lambda client: client.delete(self._key(group_id)))

    # -- called when a part has ended ------------------------------------------------------------------------

    def encode(self, part: Part, state: str, result: object) -> bytes:
        """Encode a part's result for :meth:`count`; an exception must be its document.

        Raises EncodeError.
        """
        return encode([1, part.task_id, state, result], self._settings.serializer)[0]

    def count(self, part: Part, result: bytes) -> Standing:
        """Count an ended part unless it is counted already.

        One of the parts that complete the chord gets ``OURS``. If that part asks again, it gets ``OURS`` again,
        because its process may have died before it sent the body.
        """
        keys = [self._key(part.group_id, end) for end in (".j", ".t", ".s", ".d", "", ".c")]
        place = ("+inf" if part.index is None else str(part.index)) if self._settings.chord_ordered else ""
        values: list[str | bytes | int] = [
            part.name, part.name, result, place, self._lifetime, self._structure_lifetime, self._claim,
        ]  # fmt: skip
        return Standing(self._ask(lambda client: client.register_script(_COUNT)(keys, values)))

    def results(self, group_id: str) -> list[tuple[str, str, Any]]:
        """Return (id, state, result) of every counted part, in order. Raises DecodeError."""
        key = self._key(group_id, ".j")
        if self._settings.chord_ordered:
            stored = self._ask(lambda client: client.zrange(key, 0, -1))
        else:
            stored = self._ask(lambda client: client.lrange(key, 0, -1))
        found = []
        for each in stored:
            values = self._decode(each)
            if not isinstance(values, (list, tuple)) or len(values) != 4:
                raise DecodeError(f"the stored result of a part of chord {group_id} is malformed")
            found.append((str(values[1]), str(values[2]), values[3]))
        return found

    def close(self, part: Part) -> None:
        """Delete the counters of a chord whose body is confirmed; mark it as done.

        Parts that end later are then not counted.
        """
        keys = [self._key(part.group_id, end) for end in (".j", ".t", ".s", ".d", ".c")]
        memory = max(self._claim * 2, _LEAST_MEMORY)
        self._ask(lambda client: client.register_script(_CLOSE)(keys, [part.name, memory]))

    def give_up(self, part: Part) -> None:
        """Delete the size after the body failed, so that no part completes it again."""
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
