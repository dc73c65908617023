"""Shared memory: moves records between the master and one child; knows no task."""
