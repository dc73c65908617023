"""The web process: saves an order and sends its task in one transaction."""

from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_POST

from orders.models import Order
from orders.tasks import confirm


class Refused(Exception):
    """The payment was refused."""


def charge(order: Order) -> None:
    """Stand in for a payment service, which refuses large orders."""
    if order.amount > 100:
        raise Refused(f"{order.amount} is more than you have")


@require_POST
def place(request: HttpRequest) -> JsonResponse:
    """Place an order: ``item`` and ``amount``."""
    try:
        with transaction.atomic():
            order = Order.objects.create(item=request.POST["item"], amount=int(request.POST["amount"]))
            # Sends the task when the transaction is committed. Before the commit a worker would not find the row, and
            # after a rollback there is no row to find.
            confirm.delay_on_commit(order.pk)
            charge(order)
    except Refused as refused:
        return JsonResponse({"refused": str(refused)}, status=402)
    return JsonResponse({"order": order.pk, "state": order.state}, status=201)


def show(request: HttpRequest, pk: int) -> JsonResponse:
    """Return the state of an order."""
    order = get_object_or_404(Order, pk=pk)
    return JsonResponse({"order": order.pk, "item": order.item, "state": order.state})
