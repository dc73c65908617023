"""The spawner: a small process that holds the imported app and only forks children."""
