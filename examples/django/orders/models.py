"""The shop's model."""

from django.db import models


class Order(models.Model):
    """An order: placed by the web process, confirmed by the worker, closed by a periodic task if forgotten."""

    class State(models.TextChoices):
        """The states of an order."""

        PLACED = "placed"
        CONFIRMED = "confirmed"
        CLOSED = "closed"

    item = models.CharField(max_length=100)
    amount = models.PositiveIntegerField()
    state = models.CharField(max_length=10, choices=State, default=State.PLACED)
    placed_at = models.DateTimeField(auto_now_add=True)
