"""Which messages that were delivered before may begin now.

Pure. ``master.delivery.suspects`` asks it when the turn of one has come. A worker that is killed takes all its running
tasks with it, and each of them counts a death, the innocent as well as the one that kills. So a message that one death
more would end begins beside no other suspect: what dies alone is what kills.
"""

from __future__ import annotations


def is_spent(deaths: int, most: int) -> bool:
    """Whether a message is given up instead of run."""
    return deaths >= most


def is_last_chance(deaths: int, most: int) -> bool:
    """Whether one death more would end the message."""
    return deaths + 1 >= most


def may_begin(last_chance: bool, running: int, last_chance_runs: bool) -> bool:
    """Whether a suspect may begin beside ``running`` others, of which one may be at its last chance."""
    return not running if last_chance else not last_chance_runs
