"""The outcome of a task: publishing, storing, reporting and settling it."""
