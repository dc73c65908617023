"""A small in-memory AMQP 0-9-1 broker on loopback, for trying turbo.

It serves where no RabbitMQ is installed.

`broker.EmbeddedBroker` runs on an asyncio loop; `launch.run_in_subprocess` starts one in a process of its own. Nothing
else in turbo depends on it, and it handles messages, not tasks. This module imports neither of the two, so that a
worker that starts a broker in another process need not load it.
"""
