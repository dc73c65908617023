"""Additions to the task API that a program imports by name; nothing else imports them."""
