"""The spawner: a small process with the imported app that only forks."""
