"""What the tests start and measure with: real servers, a proxy that misbehaves, an oracle.

Nothing here is a fake. A server that is missing is installed or the run fails; nothing is skipped.
"""
