"""Shared memory: moves records between the master and one child, unread."""
