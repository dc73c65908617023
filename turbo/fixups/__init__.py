"""Automatic integration of an app with the framework that its program is written with."""
