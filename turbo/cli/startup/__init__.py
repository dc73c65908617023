"""What ``turbo exec`` puts into the start of a program: Celery's worker command becomes turbo's.

``sitecustomize`` is found by Python through ``PYTHONPATH``; ``takeover`` holds the command. The program itself, and all
that it does before and after its worker, stays as it is.
"""
