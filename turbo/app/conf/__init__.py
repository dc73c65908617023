"""Settings: their declarations, their sources, and the frozen result in a worker."""
