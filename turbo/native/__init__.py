"""What only turbo's own apps need in a worker.

These are the app itself, outcome hooks, requests and decoded messages.
"""
