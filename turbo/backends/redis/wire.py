"""The bytes of the Redis store: script calls, the handshake, error replies.

Used by ``redis.writes`` (commands and replies) and ``redis.connection`` (the handshake), in the master. Pure: opens
nothing, does not wait, does not log and reads no clock.

Each write is a script call, although Celery sends SETEX and PUBLISH in MULTI/EXEC. A script stores and publishes
atomically (a crash can separate two plain commands, and Celery's client then waits although the result is stored). The
document is sent once instead of twice, there is one reply to match instead of four, and a guarded write is the same
code. Measured over a Unix socket, batches of 200, 0.2 KB documents: 0.7 us in the client and 3.5 us in Redis per
result; MULTI/EXEC pairs 1.3 and 2.0, bare pairs 1.5 and 1.5. The master is the bottleneck, so its time counts most.
"""

from __future__ import annotations

import enum
import hashlib
from typing import Final

#: KEYS[1] is the key; ARGV: document, lifetime in seconds ("0": no expiry), guard ("1" or "0").
#: Replies: 1: stored and published; 0: a stored SUCCESS was kept; a string: the stored document is compressed, which
#: the script cannot read, so the caller has to decide.
#: The first test matches JSON documents of Celery and turbo (status comes first), the second any other JSON, the third
#: pickle, msgpack and YAML, in all of which the value follows its key within a few bytes. pcall keeps Redis's own error
#: text ("OOM …"), which older servers otherwise wrap.
STORE_SCRIPT: Final = b"""
if ARGV[3] == '1' then
  local there = redis.pcall('GET', KEYS[1])
  if type(there) == 'string' then
    if string.find(there, '^{%s*"status"%s*:%s*"SUCCESS"') then return 0 end
    if string.sub(there, 1, 1) == '{' then
      local ok, document = pcall(cjson.decode, there)
      if ok and type(document) == 'table' and document.status == 'SUCCESS' then return 0 end
    elseif string.sub(there, 1, 19) == '\\0celery-compressed\\0' then
      return there
    else
      local _, last = string.find(there, 'status', 1, true)
      if last and string.find(string.sub(there, last + 1, last + 16), 'SUCCESS', 1, true) then return 0 end
    end
  end
end
local reply
if ARGV[2] == '0' then reply = redis.pcall('SET', KEYS[1], ARGV[1])
else reply = redis.pcall('SETEX', KEYS[1], ARGV[2], ARGV[1]) end
if type(reply) == 'table' and reply.err then return reply end
redis.call('PUBLISH', KEYS[1], ARGV[1])
return 1
"""

STORE_SHA: Final = hashlib.sha1(STORE_SCRIPT, usedforsecurity=False).hexdigest().encode()

TASK_KEY_PREFIX: Final = "celery-task-meta-"

#: Redis's default proto-max-bulk-len in bytes. Redis would close the connection at every attempt to send more.
LARGEST_VALUE: Final = 512 * 1024 * 1024

_HEAD: Final = b"*7\r\n$7\r\nEVALSHA\r\n$40\r\n" + STORE_SHA + b"\r\n$1\r\n1\r\n$"
_TAIL: Final = (b"\r\n$1\r\n0\r\n", b"\r\n$1\r\n1\r\n")


def joined(global_keyprefix: str) -> str:
    """Return the prefix of every key.

    Like Celery, adds an underscore unless the prefix ends in a separator.
    """
    if global_keyprefix and global_keyprefix[-1] not in ":_-.":
        global_keyprefix += "_"
    return global_keyprefix


def task_key_prefix(global_keyprefix: str) -> bytes:
    """Return the part of a task's key before its id."""
    return (joined(global_keyprefix) + TASK_KEY_PREFIX).encode()


def lifetime(seconds: float | None) -> bytes:
    """Return the script's argument for a lifetime in whole seconds.

    0 (no expiry) for None, 0 and less.
    """
    return b"%d" % max(0, int(seconds or 0))


def command(*parts: bytes) -> bytes:
    """Encode one command in the RESP protocol."""
    return b"*%d\r\n" % len(parts) + b"".join([b"$%d\r\n%b\r\n" % (len(part), part) for part in parts])


def store_frame(key: bytes, payload: bytes, seconds: bytes, guard: bool) -> bytes:
    """Encode one write, a call of ``STORE_SCRIPT``.

    Does not use ``command``, for speed: it is made for every task.
    """
    return b"%b%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b%b" % (
        _HEAD, len(key), key, len(payload), payload, len(seconds), seconds, _TAIL[guard],
    )  # fmt: skip


def handshake(username: str | None, password: str | None, db: int, client_name: str | None) -> list[bytes]:
    """Return the commands for a new connection, in order; each gets one reply."""
    commands = []
    if password is not None:
        user = () if username is None else (username.encode(),)
        commands.append(command(b"AUTH", *user, password.encode()))
    if client_name:
        commands.append(command(b"CLIENT", b"SETNAME", client_name.encode()))
    if db:
        commands.append(command(b"SELECT", b"%d" % db))
    # A server that is still loading its data replies LOADING to this command, so that no write is sent to it.
    commands.append(command(b"SCRIPT", b"LOAD", STORE_SCRIPT))
    return commands


class Fault(enum.Enum):
    """The reaction to an error reply."""

    #: Repeat the write on the same connection after a pause.
    WAIT = "wait"
    #: Reconnect first: another server may be the master now, or this one has lost the script or the login.
    RECONNECT = "reconnect"
    #: Give up: the write would never succeed.
    PERMANENT = "permanent"


_FAULTS: Final = {
    "OOM": Fault.WAIT,
    "BUSY": Fault.WAIT,
    "MISCONF": Fault.WAIT,
    "NOREPLICAS": Fault.WAIT,
    "TRYAGAIN": Fault.WAIT,
    "CLUSTERDOWN": Fault.WAIT,
    "LOADING": Fault.RECONNECT,
    "READONLY": Fault.RECONNECT,
    "MASTERDOWN": Fault.RECONNECT,
    "NOSCRIPT": Fault.RECONNECT,
    "NOAUTH": Fault.RECONNECT,
}


def classify(message: str) -> Fault:
    """Classify an error reply by its first word, the error code that Redis documents."""
    return _FAULTS.get(message.partition(" ")[0].lstrip("-"), Fault.PERMANENT)
