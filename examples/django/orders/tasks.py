"""The worker's side."""

from datetime import timedelta

from celery import shared_task
from django.utils import timezone

from orders.models import Order

#: An order that nobody confirmed for so long is forgotten.
PATIENCE = timedelta(hours=1)


@shared_task
def confirm(order_id: int) -> None:
    """Confirm an order. It is given by its key, not as an object: the row may have changed since."""
    Order.objects.filter(pk=order_id, state=Order.State.PLACED).update(state=Order.State.CONFIRMED)


@shared_task
def close_stale() -> int:
    """Close what was forgotten; beat asks for it."""
    forgotten = Order.objects.filter(state=Order.State.PLACED, placed_at__lt=timezone.now() - PATIENCE)
    return forgotten.update(state=Order.State.CLOSED)
