"""``Request`` at the path that Celery has it; it is ``native.request``'s."""

from turbo.native.request import Request as Request
