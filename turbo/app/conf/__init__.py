"""Settings: declared once, read from where users give them, fixed at a worker's start."""
