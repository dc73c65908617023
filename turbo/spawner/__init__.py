"""The spawner: the small process that holds the imported app and does nothing but fork children."""
