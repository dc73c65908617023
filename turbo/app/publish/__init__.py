"""How a call becomes a message and leaves: routes, queues, options, the publisher of a client."""
