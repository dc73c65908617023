"""What only an app of turbo's own needs in a worker: its side of the seam, hooks, requests, decoded messages."""
