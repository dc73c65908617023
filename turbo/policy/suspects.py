"""Decides which redelivered messages may start now.

Pure. ``master.delivery.suspects`` asks it. A killed worker ends all its running tasks, and each counts a death, whether
or not it caused the kill. So a message that one more death would end runs beside no other suspect: if it dies alone, it
is the cause. It must never see a first delivery.
"""

from __future__ import annotations


def is_spent(deaths: int, most: int) -> bool:
    """Whether a message is given up instead of run."""
    return deaths >= most


def is_last_chance(deaths: int, most: int) -> bool:
    """Whether one more death would end the message."""
    return deaths + 1 >= most


def may_begin(last_chance: bool, running: int, last_chance_runs: bool) -> bool:
    """Whether a suspect may start beside ``running`` others.

    ``last_chance_runs``: one is at its last chance.
    """
    return not running if last_chance else not last_chance_runs
