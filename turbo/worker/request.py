"""``native.request.Request`` under Celery's import path."""

from turbo.native.request import Request as Request
