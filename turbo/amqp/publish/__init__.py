"""The worker's publishing connection: messages, confirms, refusals."""
