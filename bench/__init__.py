"""Benchmarks: turbo beside Celery, dramatiq and a consumer that does nothing, on this machine.

Run ``python -m bench --help`` from the repository's root. Each measure alternates the contenders round by
round on the same servers, checks that every task really ran, and writes one JSON file.
"""
