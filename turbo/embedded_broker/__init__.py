"""A small in-memory AMQP 0-9-1 broker on loopback, for trying turbo where no RabbitMQ is installed.

`broker.EmbeddedBroker` runs on a loop, `launch.run_in_subprocess` starts one in a process of its own. Nothing else of
turbo depends on it, and it knows messages, not tasks. This module imports neither: a worker that starts a broker
elsewhere need not load one.
"""
