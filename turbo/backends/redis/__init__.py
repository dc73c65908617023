"""Results in Redis: the master writes, clients read, chords are counted."""
