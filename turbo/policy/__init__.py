"""The rules: facts in, decisions out.

No I/O, no clock, no randomness; any process may import them.
"""
