"""The command line: ``turbo`` and its subcommands.

Runs in the process that becomes the master.
"""
