"""Automatic integration of an app with the framework of its program."""
