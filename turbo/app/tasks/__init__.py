"""What a task is made of: its class, calls, options, context and retries."""
