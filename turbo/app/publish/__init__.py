"""Turns a call into a message and publishes it."""
