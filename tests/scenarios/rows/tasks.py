"""How a task's body ends and what is stored: retries, states, errors, handlers, classes, requests of its own."""

from __future__ import annotations

from tests.scenarios.rows.acks import ENDED, OWN, PRERUN_POSTRUN, RETRIED
from tests.scenarios.scenario import (
    ANYTHING,
    FAILURE,
    HARD,
    LOST,
    NOTHING,
    SOFT,
    SUCCESS,
    End,
    Scenario,
    failed,
    ok,
    one,
)

AGAIN = "child prerun, child retry, child postrun"
KEY = "builtins.KeyError"
#: What Celery stores in place of an exception that pickle cannot carry.
WRAPPED = "celery.utils.serialization.UnpickleableExceptionWrapper"


def heard(*words: str) -> str:
    return ", ".join(words)


RETRIES = (
    one("exhausted", "s.exhaust", False, heard=heard(AGAIN, AGAIN, FAILURE),
        end=failed("celery.exceptions.MaxRetriesExceededError", "Can't retry s.exhaust"), smoke=True),
    one("exhausted_with_reason", "s.exhaust", True, heard=heard(AGAIN, AGAIN, FAILURE), end=failed(OWN, "the reason")),
    one("exhausted_in_except", "s.exhaust_in_except", heard=heard(AGAIN, FAILURE), end=failed(OWN, "instead")),
    one("exhausted_by_one_call", "s.retry_once", heard=heard(AGAIN, FAILURE), end=failed(OWN, "enough")),
    one("retried_elsewhere", "s.retry_elsewhere", "first", heard=RETRIED, end=ok(["second", 7, "prio", 3])),
    one("retried_quietly", "s.retry_quietly", heard=heard(SUCCESS, SUCCESS), end=ok("went on")),
    one("backing_off", "s.back_off", 2, heard=heard(AGAIN, AGAIN, SUCCESS), end=ok(2), smoke=True),
    one("backing_off_in_vain", "s.back_off", 9, heard=heard(AGAIN, AGAIN, FAILURE), end=failed(OWN, "again")),
    one("not_retried", "s.not_for_this", end=failed(KEY, "never again")),
    one("retry_by_hand", "s.raise_retry", heard=AGAIN,
        end=failed(OWN, "why", state="RETRY", last_line="celery.exceptions.Retry")),
    one("what_a_retry_keeps", "s.report_after_retry", heard=RETRIED, headers={"tenant": "acme"}, shadow="alias",
        time_limit=30, soft_time_limit=20.5, queue="prio", priority=4,
        end=ok({"headers": {"tenant": "acme"}, "timelimit": [30, 20.5], "shadow": "alias", "priority": 4,
                "root": "it", "parent": "it"})),
    Scenario(
        "link_after_retry",
        lambda to: to.send("it", "s.retry", 2, countdown=0.1, link=to.sig("link", "s.echo")),
        {"it": ok("after 2"), "link": ok(["after 2"])},
        heard={"it": tuple(heard(AGAIN, RETRIED).split(", ")), "link": tuple(SUCCESS.split(", "))},
        children={"it": ["link"]},
    ),
)  # fmt: skip

RESULTS = (
    one("started_is_tracked", "s.tracked", end=ok(["STARTED", ["hostname", "pid"]]), smoke=True),
    one("started_is_not_tracked", "s.untracked", end=ok("PENDING")),
    one("progress", "s.progress", False, end=ok({"done": 3, "of": 7}), smoke=True),
    one("progress_left", "s.progress", True, end=End("PROGRESS", {"done": 3, "of": 7}), heard=PRERUN_POSTRUN),
    one("success_by_hand", "s.own_success", end=End("SUCCESS", "by hand"), heard=PRERUN_POSTRUN),
    Scenario("state_of_another", lambda to: to.send("it", "s.other_state"),
             {"it": ok(None), "it-other": End("ODD", [1])}),
    one("ignored", "s.ignored_add", 1, 2, end=NOTHING, heard=SUCCESS, smoke=True),
    one("ignored_by_message", "s.add", 1, 2, end=NOTHING, heard=SUCCESS, ignore_result=True),
    one("kept_by_message", "s.ignored_add", 1, 2, end=ok(3), ignore_result=False),
    one("ignored_failure", "s.ignored_fail", end=NOTHING, heard=FAILURE),
    one("ignored_failure_stored", "s.stored_fail", end=failed(OWN, "seen")),
    one("ignored_hard_limit", "s.sleep", 60, end=NOTHING, heard=ENDED, time_limit=2, ignore_result=True),
    one("result_none", "s.echo", end=ok([])),
    one("result_of_5_mb", "s.grow", 5_000_000, end=ok(), smoke=True),
    one("arguments_of_5_mb", "s.size", "x" * 5_000_000, end=ok(5_000_000), smoke=True),
    one("unserialisable", "s.unserialisable", end=failed("kombu.exceptions.EncodeError", "set", last_line=ANYTHING)),
    one("pickled_by_its_task", "s.pickled", end=failed("kombu.exceptions.EncodeError", "set", last_line=ANYTHING)),
)  # fmt: skip

ERRORS = (
    one("error_own", "s.boom", "own", end=failed(OWN, "text"), smoke=True),
    one("error_picky", "s.boom", "picky", end=failed(WRAPPED, "PickyError"), smoke=True),
    one("error_locked", "s.boom", "locked", end=failed(WRAPPED, "LockedError"), smoke=True),
    one("error_nested", "s.boom", "nested", end=failed("scenario_errors.Outer.NestedError", "inner")),
    one("error_key", "s.boom", "key", end=failed(KEY, "k")),
    one("error_os", "s.boom", "os", end=failed("builtins.FileNotFoundError", "No such file")),
    one("error_unicode", "s.boom", "unicode", end=failed("builtins.UnicodeDecodeError", "bad")),
    one("error_empty", "s.boom", "assertion", end=failed("builtins.AssertionError")),
    one("error_with_a_function", "s.boom", "function", end=failed(WRAPPED, "OwnError")),
    one("error_stop_iteration", "s.boom", "stop", end=failed("builtins.StopIteration", "stop")),
    one("error_group", "s.boom", "group", end=failed("builtins.ExceptionGroup", "several", last_line=ANYTHING)),
    one("error_with_cause", "s.chained", end=failed(OWN, "second")),
    one("error_announced", "s.throws", end=failed("scenario_errors.ExpectedError", "as announced")),
    one("arguments_missing", "s.total", end=failed("builtins.TypeError", "missing 1 required positional")),
    one("arguments_too_many", "s.total", [1], 2, 3, 4, end=failed("builtins.TypeError", "takes from 1 to 2")),
)  # fmt: skip

CLASSES = (
    one("handlers", "s.noisy", "fine", kwargs={"key": 2}, end=ok("fine"), smoke=True,
        heard="child prerun, child before_start, child on_success, child success, child after_return, child postrun"),
    one("handlers_of_failure", "s.noisy", "failure", end=failed(OWN, "noise"), smoke=True,
        heard="child prerun, child before_start, child on_failure, child failure, child after_return, child postrun"),
    one("handlers_of_retry", "s.noisy", "retry", end=ok("retry"),
        heard="child prerun, child before_start, child on_retry, child retry, child postrun, "
              "child prerun, child before_start, child on_success, child success, child after_return, child postrun"),
    one("handlers_of_ignore", "s.noisy", "ignore", end=NOTHING,
        heard="child prerun, child before_start, child postrun"),
    one("handlers_of_soft_limit", "s.noisy", "sleep", end=SOFT, soft_time_limit=1.5,
        heard="child prerun, child before_start, child on_failure, child failure, child after_return, child postrun"),
    one("handlers_of_hard_limit", "s.noisy", "sleep", end=HARD, time_limit=2, smoke=True,
        heard="child prerun, child before_start, master on_failure, master after_return, master failure"),
    one("handlers_of_lost", "s.noisy", "die", end=LOST, heard="child prerun, child before_start, master failure"),
    one("before_start_raises", "s.bad_start", end=failed(OWN, "not started")),
    one("on_success_raises", "s.bad_end", end=ok("kept")),
    one("own_call", "s.wrapped", 4, end=ok(["wrapped", [True, 4]]), smoke=True),
    one("own_call_at_its_limit", "s.wrapped_sleep", end=SOFT),
    one("state_of_a_class", "s.counting", end=ok([True, True])),
    one("by_class", "s.by_class", 5, end=ok(["ByClass", 5])),
    one("request", "s.heard", "fine", end=ok("fine"), smoke=True,
        heard="child prerun, child before_start, child on_success, child success, child after_return, child postrun"),
    one("request_of_failure", "s.late_heard", "failure", end=failed(OWN, "noise"), smoke=True,
        heard="child prerun, child before_start, child on_failure, child failure, child after_return, child postrun, "
              "master request.on_failure"),
    one("request_of_ignore", "s.heard", "ignore", end=NOTHING,
        heard="child prerun, child before_start, child postrun, master request.on_failure"),
    Scenario("request_of_retry", lambda to: to.send("it", "s.late_heard", "retry"), {"it": ok("retry")}),
    Scenario("request_of_soft_limit", lambda to: to.send("it", "s.heard", "sleep", soft_time_limit=1.5), {"it": SOFT}),
    one("request_of_hard_limit", "s.heard", "sleep", end=HARD, time_limit=2, smoke=True,
        heard="child prerun, child before_start, master request.on_timeout, master on_failure, master after_return, "
              "master failure"),
    one("request_of_lost", "s.heard", "die", end=LOST,
        heard="child prerun, child before_start, master request.on_failure, master failure"),
    one("request_by_name", "s.named", end=ok("named")),
)  # fmt: skip

ROWS = (*RETRIES, *RESULTS, *ERRORS, *CLASSES)
