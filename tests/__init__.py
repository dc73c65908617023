"""The test suite of turbo, a folder a kind: unit, process, integration, adversity, compat."""
