"""Makes Celery's worker command turbo's: what ``turbo exec`` adds.

It runs at the start of a program.

``sitecustomize`` is found by Python through ``PYTHONPATH``; ``takeover`` holds the command. The program itself, and all
that it does before and after its worker, stays as it is.
"""
