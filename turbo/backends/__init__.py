"""Result stores: where the outcome of a task goes, and where a client reads it back."""
