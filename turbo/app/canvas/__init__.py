"""Chains, groups, chords and their like: how they are built and sent."""
