"""The answering side of remote control, and the worker's events.

Runs in the master.
"""
