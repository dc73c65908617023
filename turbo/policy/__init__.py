"""The rules: facts in, decisions out. No I/O, no clock, no randomness; every process may import them."""
