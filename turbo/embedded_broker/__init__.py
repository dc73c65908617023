"""A small in-memory AMQP 0-9-1 broker on loopback, for trying turbo where no RabbitMQ is installed."""
