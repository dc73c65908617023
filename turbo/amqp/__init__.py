"""The connections to the broker: the only folder of the worker that imports pika.

It handles deliveries and messages, never tasks.
"""
