"""Apps and workers for tests, by the names of ``celery.contrib.testing``."""
