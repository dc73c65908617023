from django.core.cache.backends.redis import RedisCache

from things.recorder import record


class Watched(RedisCache):
    """A cache that records when and in which process it is closed."""

    def close(self, **kwargs):
        record("cache closed")
        super().close(**kwargs)
