"""The tasks that the worker runs."""

from datetime import timedelta

from celery import shared_task
from django.utils import timezone

from orders.models import Order

#: An order that is not confirmed within this time counts as forgotten.
PATIENCE = timedelta(hours=1)


@shared_task
def confirm(order_id: int) -> None:
    """Confirm an order. The argument is the primary key, not the object: the row may have changed."""
    Order.objects.filter(pk=order_id, state=Order.State.PLACED).update(state=Order.State.CONFIRMED)


@shared_task
def close_stale() -> int:
    """Close forgotten orders. Beat sends this task."""
    forgotten = Order.objects.filter(state=Order.State.PLACED, placed_at__lt=timezone.now() - PATIENCE)
    return forgotten.update(state=Order.State.CLOSED)
