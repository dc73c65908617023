"""What only an app of turbo's own needs in a worker: its worker-side app, outcome hooks, requests, decoded messages."""
