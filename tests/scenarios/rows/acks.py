"""Every row of the table of acknowledgements: how a task ends, and how its message is settled."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from tests.scenarios.scenario import HARD, LOST, NOTHING, SOFT, SUCCESS, Scenario, ended, failed, ok, one

if TYPE_CHECKING:
    from tests.scenarios.place import Held
    from tests.scenarios.sending import Sending

OWN = "scenario_errors.OwnError"
PAST = datetime(2020, 1, 1, tzinfo=UTC).isoformat()
EXPIRED = ended("celery.exceptions.TaskRevokedError", "expired", state="REVOKED")
REJECTED = ended("celery.exceptions.Reject", "not mine")
#: Celery's master ends it; the child that ran it is gone.
ENDED = "child prerun, master failure"
#: Ends without a word, and its copy succeeds.
ONCE_MORE = f"child prerun, {SUCCESS}"
RETRIED = f"child prerun, child retry, child postrun, {SUCCESS}"
PRERUN_POSTRUN = "child prerun, child postrun"


def _held(name: str, task: str, unacked: int) -> Scenario:
    """Observe whether the message is acknowledged while the task runs."""

    def during(to: Sending, held: Held) -> int:
        held.wait_holding(to, "it")
        found = held.wait_unacked(unacked)
        held.open(to, "it")
        return found

    return Scenario(
        name,
        lambda to: to.send("it", task, queue=f"hold-{to.client.name}"),
        {"it": ok("released")},
        heard={"it": ("child prerun", "child holding", "child success", "child postrun")},
        during=during,
        seen=unacked,
    )


def _expires_while_held(to: Sending) -> None:
    # The header alone: with the option, the broker would drop the message when it is late.
    soon = (datetime.now(UTC) + timedelta(seconds=0.7)).isoformat()
    to.send("it", "s.late_add", 1, 2, countdown=2, headers={"expires": soon})
    to.send("early", "s.add", 1, 2, countdown=2, headers={"expires": soon})


ROWS = (
    _held("unacked_while_late", "s.late_hold", 1),
    _held("acked_at_the_start", "s.hold", 0),
    one("success", "s.add", 1, 2, end=ok(3), smoke=True),
    one("success_late", "s.late_add", 1, 2, end=ok(3), smoke=True),
    one("failure", "s.fail", "no", end=failed(OWN, "no"), smoke=True),
    one("failure_late", "s.late_fail", "no", end=failed(OWN, "no")),
    one("failure_not_acked", "s.picky_fail", "no", end=failed(OWN, "no"), dead=True, smoke=True),
    one("retry", "s.retry", 1, end=ok("after 1"), heard=RETRIED, smoke=True),
    one("retry_late", "s.late_retry", 1, end=ok("after 1"), heard=RETRIED),
    one("ignore", "s.ignore", end=NOTHING, heard=PRERUN_POSTRUN, smoke=True),
    one("ignore_late", "s.late_ignore", end=NOTHING, heard=PRERUN_POSTRUN),
    one("reject", "s.reject", False, end=REJECTED, heard=f"{PRERUN_POSTRUN}, master failure"),
    one("reject_late", "s.late_reject", False, end=REJECTED, heard=f"{PRERUN_POSTRUN}, master failure", dead=True),
    one("requeue", "s.reject", True, end=NOTHING, heard=PRERUN_POSTRUN),
    one("requeue_late", "s.late_reject", True, end=ok("again"), heard=f"{PRERUN_POSTRUN}, {SUCCESS}", smoke=True),
    one("soft", "s.sleep", 60, end=SOFT, soft_time_limit=1.5, smoke=True),
    one("soft_caught", "s.catch", 60, end=ok("caught"), soft_time_limit=1.5, smoke=True),
    one("soft_caught_late", "s.late_catch", 60, end=ok("caught"), soft_time_limit=1.5),
    one("soft_late", "s.late_sleep", 60, end=SOFT, soft_time_limit=1.5),
    one("soft_not_acked", "s.picky_sleep", 60, end=SOFT, soft_time_limit=1.5, dead=True),
    one("hard", "s.sleep", 60, end=HARD, heard=ENDED, time_limit=2, smoke=True),
    one("hard_late", "s.late_sleep", 60, end=HARD, heard=ENDED, time_limit=2),
    one("hard_of_the_task", "s.limited_sleep", 60, end=HARD, heard=ENDED),
    one("hard_not_acked", "s.picky_sleep", 60, end=ok("again"), heard=f"{ENDED}, {SUCCESS}", time_limit=2, smoke=True),
    one("soft_then_hard", "s.catch", 60, end=ok("caught"), soft_time_limit=1.5, time_limit=30),
    one("lost", "s.die", end=LOST, heard=ENDED, smoke=True),
    one("lost_late", "s.late_die", end=LOST, heard=ENDED),
    one("lost_not_acked", "s.picky_die", end=LOST, heard=ENDED, dead=True),
    one("lost_requeued", "s.stubborn_die", end=ok("again"), heard=ONCE_MORE, smoke=True),
    one("left_by_exit", "s.leave", 3, end=ended("billiard.exceptions.WorkerLostError", "exitcode 3"), heard=ENDED),
    one("expired", "s.add", 1, 2, end=EXPIRED, heard="master revoked", headers={"expires": PAST}, smoke=True),
    one("expired_late", "s.late_add", 1, 2, end=EXPIRED, heard="master revoked", headers={"expires": PAST}),
    Scenario(
        "expired_while_held",
        _expires_while_held,
        {"it": EXPIRED, "early": EXPIRED},
        heard={"it": ("master revoked",), "early": ("master revoked",)},
    ),
    one("unknown", "s.nobody", 1, end=ended("celery.exceptions.NotRegistered", "s.nobody"),
        heard="master unknown", dead=True, smoke=True),
)  # fmt: skip
