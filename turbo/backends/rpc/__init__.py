"""Results by message: the master publishes, clients consume."""
