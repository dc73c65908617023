"""A small in-memory AMQP 0-9-1 broker on loopback, for trying turbo where no RabbitMQ is installed.

`EmbeddedBroker` runs on a loop, `run_in_subprocess` in a process of its own. Nothing else of turbo depends
on it, and it knows messages, not tasks.
"""

from __future__ import annotations

from turbo.embedded_broker.broker import EmbeddedBroker
from turbo.embedded_broker.process import BrokerProcess, run_in_subprocess

__all__ = ["BrokerProcess", "EmbeddedBroker", "run_in_subprocess"]
