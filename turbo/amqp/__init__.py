"""The broker side: the only folder that imports pika.

It knows deliveries and publishes, never tasks.
"""
