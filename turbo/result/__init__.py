"""The handles on results that a client gets from a call, under Celery's names."""

from __future__ import annotations

from turbo.result.async_result import AsyncResult, result_from_tuple
from turbo.result.eager import EagerResult
from turbo.result.group_result import GroupResult, ResultSet
from turbo.result.joining import allow_join_result, assert_will_not_block, denied_join_result
from turbo.result.result_tree import ResultBase

__all__ = [
    "AsyncResult",
    "EagerResult",
    "GroupResult",
    "ResultBase",
    "ResultSet",
    "allow_join_result",
    "assert_will_not_block",
    "denied_join_result",
    "result_from_tuple",
]
