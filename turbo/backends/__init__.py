"""Result backends: the master stores through them, clients read through them."""
