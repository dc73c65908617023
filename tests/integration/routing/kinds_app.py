"""Queues at exchanges of every kind, defined by configuration only; one worker declares them all."""

from __future__ import annotations

import os

from turbo import Exchange, Queue, Turbo, binding

TOPICS = Exchange("topics", "topic")
HEADERS = Exchange("papers", "headers")

#: Queue name to the binding key that it has at the topic exchange.
TOPIC_KEYS = {"any stock": "*.stock.#", "video": "video.#", "one word": "image.*", "everything": "#", "exact": "a.b"}

QUEUES = [
    Queue("red", Exchange("colours", "direct"), "red"),
    Queue("blue", Exchange("colours"), "blue"),
    *(Queue(name, TOPICS, key) for name, key in TOPIC_KEYS.items()),
    Queue("left", Exchange("all", "fanout")),
    Queue("right", Exchange("all", "fanout"), "a key that means nothing"),
    Queue("pdf", HEADERS, binding_arguments={"x-match": "all", "format": "pdf", "colour": "no"}),
    Queue("picture", bindings=[
        binding(HEADERS, arguments={"x-match": "any", "format": "png", "colour": "yes"}),
        binding(TOPICS, "picture.#"),
    ]),
    Queue("limited", Exchange("limited"), "limited", max_length=2, message_ttl=600, expires=3600, max_priority=5,
          queue_arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "letters"}),
    Queue("quorum", Exchange("quorum"), "quorum", queue_arguments={"x-queue-type": "quorum", "x-delivery-limit": 3}),
    Queue("brief", Exchange("brief", durable=False, auto_delete=True), "brief", durable=False),
    Queue("letters"),
    Queue("slow", Exchange("works", "topic"), "slow.#", queue_arguments={"x-queue-type": "quorum"}),
]  # fmt: skip

app = Turbo("kinds", broker=os.environ.get("ROUTING_BROKER"))
app.conf.task_queues = QUEUES
app.conf.broker_native_delayed_delivery_queue_type = "classic"
app.conf.task_routes = [
    {"feed.*": {"exchange": "topics", "exchange_type": "topic"}},
    {"paint": "red"},
]
