"""The private Redis: databases are apart, and what was acknowledged survives a SIGKILL."""

from __future__ import annotations

import redis

from tests.harness.redis_server import RedisServer


def test_databases_are_apart_and_writes_survive(redis_server: RedisServer, redis_db: str) -> None:
    other = redis_server.new_database()
    assert other != redis_db
    with redis.Redis.from_url(redis_db) as here, redis.Redis.from_url(other) as there:
        here.set("k", "v")
        assert there.get("k") is None
        redis_server.restart()
    with redis.Redis.from_url(redis_db) as here:
        assert here.get("k") == b"v"
