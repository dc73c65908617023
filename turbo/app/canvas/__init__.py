"""Signatures, chains, groups, chords and maps: how they are built and sent."""
