"""The children: their start, supervision, limits, replacement and death."""
