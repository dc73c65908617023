"""The test harness: real servers, a proxy that injects faults, and an oracle of what tasks did.

Nothing here is a fake. A missing server is installed, or the run fails; no test is skipped for want of one.
"""
