"""What becomes of an outcome: published, stored, told, settled."""
