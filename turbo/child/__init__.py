"""What runs in a child: claim, decode, run, report.

No event loop and no broker connection of the master.
"""
