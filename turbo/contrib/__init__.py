"""Additions to the task API that a program imports by name.

Nothing else imports them.
"""
