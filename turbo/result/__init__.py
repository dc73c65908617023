"""Handles on results: what a client holds after calling a task."""
