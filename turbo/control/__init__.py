"""Remote control, the answering side, and the worker's events. Runs in the master."""
