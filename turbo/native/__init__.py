"""What only an app of turbo's own needs in the master: its hooks, requests and decoded messages."""
