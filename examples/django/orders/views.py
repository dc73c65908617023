"""The web process's side: it writes the row and asks for the work, both or neither."""

from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_POST

from orders.models import Order
from orders.tasks import confirm


class Refused(Exception):
    """The payment did not go through."""


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
            # Sent when the transaction is committed: a worker that is faster than the commit would find no row, and
            # one that is told of an order which is rolled back would look for it in vain.
            confirm.delay_on_commit(order.pk)
            charge(order)
    except Refused as refused:
        return JsonResponse({"refused": str(refused)}, status=402)
    return JsonResponse({"order": order.pk, "state": order.state}, status=201)


def show(request: HttpRequest, pk: int) -> JsonResponse:
    """How far an order is."""
    order = get_object_or_404(Order, pk=pk)
    return JsonResponse({"order": order.pk, "item": order.item, "state": order.state})
