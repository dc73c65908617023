"""What the shop keeps."""

from django.db import models


class Order(models.Model):
    """An order: placed by the web process, confirmed by the worker, closed by beat's task when it was forgotten."""

    class State(models.TextChoices):
        """How far it is."""

        PLACED = "placed"
        CONFIRMED = "confirmed"
        CLOSED = "closed"

    item = models.CharField(max_length=100)
    amount = models.PositiveIntegerField()
    state = models.CharField(max_length=10, choices=State, default=State.PLACED)
    placed_at = models.DateTimeField(auto_now_add=True)
