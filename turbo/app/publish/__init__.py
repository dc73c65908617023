"""Turns a call into a message and publishes it: routes, queues, options, the client's publisher."""
