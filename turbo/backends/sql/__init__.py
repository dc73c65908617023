"""Results in SQL databases, in the tables of Celery's database backend."""
