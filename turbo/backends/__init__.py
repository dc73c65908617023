"""Result stores: the master writes the outcome of a task, a client reads it."""
