"""Apps and workers for the tests of programs, by the names of Celery's package ``celery.contrib.testing``."""
