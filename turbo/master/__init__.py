"""What runs in the master process, on uvloop.

It never blocks; an app's code runs on threads beside its loop.
"""
