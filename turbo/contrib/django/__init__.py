"""For programs written with Django: their task class, and a task backend.

The backend is for the tasks that Django itself has.
"""
