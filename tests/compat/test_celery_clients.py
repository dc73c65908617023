"""Real Celery clients of 5.3 and 5.7 send every kind of message to turbo and read every outcome.

The same client also talks to a real Celery worker with the same tasks: documents are compared byte for byte, times
and ids masked, and every difference that is meant is listed here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.compat.apps.compat_shared import ERRORS, VALUES
from tests.compat.conftest import VERSIONS, Place, celery_client, celery_worker, fresh_place, turbo_worker
from tests.compat.sides import Side, differences, masked
from tests.harness.celery_env import celery_producer
from tests.harness.oracle import Oracle
from tests.harness.rabbitmq import RabbitMQ
from tests.harness.redis_server import RedisServer

#: Differences that are meant: (case, beginning of the difference) and why.
MEANT = {
    ("error_picky", "result.exc_"): "Celery wraps what it cannot pickle; no exception is pickled here",
    ("lost", "result.exc_message"): "Celery adds the number of the job in its pool",
    ("step_3", "result.chain"): "an empty rest of a chain is none",
    ("step_3", "result.delivery_info"): "every message has a priority, 0 if no other",
    ("step_3", "result.properties"): "the same",
    ("v1", "result.headers"): "Celery shows a header of its own making",
    ("v1", "result.root_id"): "a task without a root is its own",
    ("v1", "result.ignore_result"): "the message says nothing about it",
    ("v1_eta", "result.headers"): "as with v1",
    ("v1_eta", "result.root_id"): "as with v1",
    ("v1_eta", "result.ignore_result"): "as with v1",
}
#: What Celery's client makes of these documents, as the class that it raises.
RAISED = {
    "value": "builtins.ValueError", "key": "builtins.KeyError", "no_arguments": "builtins.RuntimeError",
    "os": "builtins.FileNotFoundError", "unicode": "builtins.UnicodeDecodeError",
    "custom": "compat_shared.CustomError", "nested": "compat_shared.Outer.NestedError",
    "opaque_argument": "compat_shared.CustomError", "nan_argument": "compat_shared.CustomError",
    "chained": "builtins.ValueError", "multiline": "builtins.ValueError",
}  # fmt: skip


class Runs:
    """Each side once, made when first asked for."""

    def __init__(self, rabbitmq: RabbitMQ, redis_server: RedisServer, directory: Path) -> None:
        self._rabbitmq = rabbitmq
        self._redis = redis_server
        self._directory = directory
        self.side = cache(self._side)
        self.oracles: dict[tuple[str, str, str], Oracle] = {}

    def _side(self, worker: str, version: str, backend: str = "redis") -> Side:
        directory = self._directory / f"{worker}-{version}-{backend}"
        directory.mkdir()
        url = self._redis.new_database() if backend == "redis" else "rpc://"
        with fresh_place(self._rabbitmq, directory, url) as place:
            self.oracles[worker, version, backend] = place.oracle
            start = turbo_worker if worker == "turbo" else celery_worker
            with start(place) as process:
                try:
                    return celery_client(version, place)
                except Exception:
                    print(process.output[-8000:])
                    raise


@pytest.fixture(scope="module")
def runs(rabbitmq: RabbitMQ, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    yield Runs(rabbitmq, redis_server, tmp_path_factory.mktemp("runs"))


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def turbo(runs: Runs, version: str) -> Side:
    """What a client of this version read from a turbo worker, with Redis."""
    side: Side = runs.side("turbo", version)
    return side


@pytest.mark.row("ST3", "ST4", "ST5", "ST6", "ST9", "ST13", "ST19", "ST23", "EX2", "EX3", "RT1")
@pytest.mark.timeout(500)
def test_documents_are_those_of_a_celery_worker(runs: Runs, version: str) -> None:
    ours, theirs = (runs.side(worker, version).documents for worker in ("turbo", "celery"))
    assert set(ours) == set(theirs), "the same tasks leave a document"
    surprising, met = [], set()
    for case in sorted(ours):
        found = differences(json.loads(masked(ours[case])), json.loads(masked(theirs[case])))
        for difference in found:
            meant = next((key for key in MEANT if key[0] == case and difference.startswith(key[1])), None)
            if meant is None:
                surprising.append(f"{case}: {difference}")
            else:
                met.add(meant)
    assert surprising == []
    assert set(MEANT) == met, "the list of differences is no longer than it must be"


@pytest.mark.row("ST1", "ST7", "CA32", "ST31", "EX33")
def test_every_case_ends_in_its_state(turbo: Side) -> None:
    wrong = {case: seen for case, seen in turbo.outcomes.items() if seen["state"] != seen["expected"]}
    assert wrong == {}
    assert len(turbo.outcomes) > 100


@pytest.mark.row("EX8", "EX11", "EX12", "EX13", "EX15", "EX18", "EX19", "EX20", "EX21", "EX26", "EX29", "WP3", "WP15")
def test_a_plain_call(turbo: Side) -> None:
    seen = turbo.value("plain")
    assert (seen["args"], seen["kwargs"]) == ([1, "ä", None], {"k": [1.5, True]})
    assert seen["id"] == seen["root_id"] == seen["correlation_id"] == "case-plain"
    assert seen["parent_id"] is seen["group"] is seen["eta"] is seen["expires"] is seen["headers"] is None
    assert (seen["retries"], seen["timelimit"], seen["replaced_task_nesting"]) == (0, [None, None], 0)
    assert (seen["is_eager"], seen["called_directly"]) == (False, False)
    assert seen["origin"].startswith("gen") and seen["hostname"].startswith("celery@")
    assert seen["reply_to"] == seen["properties"]["reply_to"]
    assert seen["delivery_info"] == {"exchange": "", "routing_key": "celery", "priority": 0, "redelivered": False}


@pytest.mark.row("WP4", "EX24")
def test_protocol_1(turbo: Side) -> None:
    seen = turbo.value("v1")
    assert (seen["id"], seen["args"], seen["kwargs"]) == ("case-v1", [1, "ä"], {"k": 1})
    later = turbo.value("v1_eta")
    assert later["eta"] == "2020-01-01T00:00:00+00:00" and later["expires"] is not None


@pytest.mark.row("WP17", "EX25")
def test_headers_of_the_callers_own(turbo: Side) -> None:
    seen = turbo.value("headers")
    assert seen["headers"] == {"tenant": "acme", "x-n": 5, "deep": {"a": [1, 2.5, None, True]}}
    assert seen["tenant"] == "acme"


@pytest.mark.row("EX16", "EX17", "TM2", "CA8", "WP14")
def test_times_are_shown_as_they_were_sent(turbo: Side) -> None:
    assert turbo.value("past_eta")["eta"] == "2020-01-01T00:00:00+00:00"
    assert turbo.value("naive_eta")["eta"].startswith("2020-01-01T00:00:00")
    assert turbo.value("countdown")["eta"].endswith("+00:00")
    for case in ("expires_later", "expires_number"):
        seen = turbo.value(case)
        assert isinstance(seen["expires"], str) and int(seen["properties"]["expiration"]) > 500_000


@pytest.mark.row("EX22", "WP13", "CA20")
def test_limits_are_whole_or_broken(turbo: Side) -> None:
    limits = {case: turbo.value(case)["timelimit"] for case in ("limits_int", "limits_float", "limit_soft_only")}
    assert limits == {"limits_int": [30, 20], "limits_float": [30.5, 1.25], "limit_soft_only": [None, 9]}
    assert turbo.value("limits_float")["time_limits"] == [30.5, 1.25]


@pytest.mark.row("CA13", "EX28")
def test_priorities(turbo: Side) -> None:
    assert turbo.value("priority")["delivery_info"]["priority"] == 7
    assert turbo.value("priority")["delivery_info"]["routing_key"] == "prio"
    assert turbo.value("no_priority")["properties"]["priority"] == 0
    assert turbo.value("transient")["properties"]["delivery_mode"] == 1


@pytest.mark.row("CA12", "WP1", "WP25", "RT2")
def test_a_topic_exchange_reaches_its_queue_and_retries_go_back_through_it(turbo: Side) -> None:
    info = turbo.value("topic")["delivery_info"]
    assert (info["exchange"], info["routing_key"]) == ("topics", "orders.eu.new")
    again = turbo.value("retried_on_topic")
    assert again["retries"] == 1
    assert (again["delivery_info"]["exchange"], again["delivery_info"]["routing_key"]) == ("topics", "orders.us")


@pytest.mark.row("EX9", "EX14", "EX30", "WP18")
def test_what_else_a_message_says(turbo: Side) -> None:
    seen = turbo.value("group")
    assert (seen["group"], seen["group_index"], seen["root_id"], seen["parent_id"]) == (
        "the-group", 3, "the-root", "the-parent",
    )  # fmt: skip
    assert turbo.value("retries")["retries"] == 2
    assert turbo.value("shadow")["shadow"] == "alias"
    assert turbo.value("stamped")["stamps"] == {"s": "v"}
    assert turbo.value("stamped")["stamped_headers"] == ["s"]


@pytest.mark.row("CA16", "CA17", "CA34", "CV2", "CV3", "CV13")
def test_what_follows_a_task(turbo: Side, runs: Runs, version: str) -> None:
    assert turbo.value("linked") == turbo.value("link_a") == 13
    assert turbo.value("link_b")["parent_id"] == turbo.value("link_b")["root_id"] == "case-linked_twice"
    assert turbo.value("link_b")["args"] == []
    assert (turbo.value("step_1"), turbo.value("step_2"), turbo.value("step_3")["args"]) == (3, 13, [13])
    assert turbo.value("step_3")["root_id"] == "case-step_1"
    assert turbo.value("errback") == "case-fails_with_link has failed"
    called = [trace.event for trace in runs.oracles["turbo", version, "redis"].traces() if "fails_inline" in trace.id]
    assert called == ["errback CustomError ('own', {'a': [1]})"]


@pytest.mark.row("CV2")
def test_later_steps_of_a_chain_fail_with_the_one_that_failed(turbo: Side) -> None:
    seen = [turbo.outcomes[f"broken_{step}"] for step in (1, 2, 3)]
    assert [(each["state"], each["raised"], each["args"]) for each in seen] == [
        ("FAILURE", "builtins.ValueError", "('the text', 5)")
    ] * 3


@pytest.mark.row("WP6", "WP7", "WP9", "WP10", "WP11")
def test_contents_of_every_kind(turbo: Side) -> None:
    assert turbo.value("json_tagged")["types"] == ["datetime", "date", "Decimal", "UUID", "bytes", "datetime"]
    assert turbo.value("json_numbers")[0] == [2**63, 2**64, -(2**70), 1e300, 0.1]
    assert repr(turbo.value("json_nan")[0]) == "[nan, inf]"
    assert turbo.value("json_surrogate")[0] == ["\ud800"]
    plain = ["x" * 3000, 5, 1.5, None, [True, {"a": "ä"}]]
    for serializer, mime in (
        ("yaml", "application/x-yaml"),
        ("msgpack", "application/x-msgpack"),
        ("pickle", "application/x-python-serialize"),
    ):
        seen = turbo.value(f"serializer_{serializer}")
        assert (seen["args"], seen["properties"]["content_type"]) == (plain, mime)
    assert turbo.value("pickle_objects") == ["{1, 2}", "1j", "(1,)", "datetime.date(2030, 1, 2)"]
    assert turbo.value("msgpack_bytes")["types"] == ["bytes"]
    assert turbo.value("yaml_dates")["types"] == ["date", "datetime"]
    packed = {case for case in turbo.outcomes if case.startswith("compress")}
    assert packed >= {"compression_gzip", "compression_bzip2", "compression_lzma", "compressed_pickle"}
    assert {case: turbo.value(case)[0] for case in packed} == dict.fromkeys(packed, plain)
    assert turbo.value("megabytes_5") == 5_000_000


@pytest.mark.row("ST3", "ST30", "WP9", "WP10")
def test_values_come_back_as_from_a_celery_worker(turbo: Side, runs: Runs, version: str) -> None:
    theirs = runs.side("celery", version)
    for kind in VALUES:
        case = f"value_{kind}"
        turbo.value(case)
        assert turbo.outcomes[case]["repr"] == theirs.outcomes[case]["repr"]


@pytest.mark.row("ST4", "ST12", "ST13")
def test_failures_come_back_as_their_class(turbo: Side) -> None:
    for kind in ERRORS:
        seen = turbo.outcomes[f"error_{kind}"]
        assert seen["state"] == "FAILURE" and "Traceback (most recent call last)" in seen["traceback"]
        assert seen["raised"] == RAISED.get(kind, seen["raised"])
    assert turbo.outcomes["error_os"]["args"] == "(2, 'No such file')"
    assert turbo.outcomes["error_opaque_argument"]["args"] == "('with', '<opaque>')"
    # It cannot be made from its arguments: what is raised names it.
    assert "PickyError" in turbo.outcomes["error_picky"]["args"]


@pytest.mark.row("EX3", "ST31", "WP21", "TM5", "TM6", "ST6", "ST2", "ST10", "ST5", "RT4", "RT5")
@pytest.mark.parametrize(
    ("case", "raised", "args"),
    [
        ("unserialisable_set", "kombu.exceptions.EncodeError", "set is not JSON serializable"),
        ("wrong_arity", "builtins.TypeError", "missing 1 required positional argument"),
        ("soft_limit", "billiard.exceptions.SoftTimeLimitExceeded", ""),
        ("hard_limit", "billiard.exceptions.TimeLimitExceeded", "(1,)"),
        ("hard_limit_float", "billiard.exceptions.TimeLimitExceeded", "(0.5,)"),
        ("lost", "billiard.exceptions.WorkerLostError", "Worker exited prematurely: signal 9 (SIGKILL)."),
        ("unregistered", "celery.exceptions.NotRegistered", "no.such.task"),
        ("expired", "celery.exceptions.TaskRevokedError", "('expired',)"),
        ("expired_while_held", "celery.exceptions.TaskRevokedError", "('expired',)"),
        ("rejected", "celery.exceptions.Reject", "not mine"),
        ("retry_waiting", "builtins.ValueError", "not now"),
        ("exhausted", "celery.exceptions.MaxRetriesExceededError", "Can't retry exhausted"),
        ("exhausted_with_reason", "builtins.OSError", "the cause"),
    ],
)
def test_other_ends(turbo: Side, case: str, raised: str, args: str) -> None:
    seen = turbo.outcomes[case]
    assert seen["raised"] == raised and args in seen["args"]


@pytest.mark.row("ST2", "ST10", "RT1", "RT19", "RT22", "EX14")
def test_states_on_the_way_and_retries(turbo: Side) -> None:
    assert turbo.outcomes["progress"]["value"] == {"done": 5, "of": [1, 2], "kind": "x"}
    assert set(turbo.outcomes["started"]["value"]) == {"pid", "hostname"}
    seen = turbo.value("retried")
    assert (seen["id"], seen["root_id"], seen["parent_id"], seen["retries"]) == (*("case-retried",) * 3, 2)
    assert seen["headers"] == {"tenant": "acme"}, "what dead-lettering adds is not sent again"
    assert (seen["timelimit"], seen["shadow"], seen["word"]) == ([30, 20.5], "alias", "w")
    assert turbo.value("retried_with_priority")["delivery_info"]["priority"] == 4
    assert turbo.value("after_retry")["parent_id"] == "case-retried_with_link"


@pytest.mark.row("WP20", "ST14", "CA21")
def test_the_headers_word_on_results_counts_before_the_tasks(turbo: Side) -> None:
    assert turbo.value("kept_by_header") == "kept"
    assert not {case for case in turbo.documents if case.startswith("ignored")}


@pytest.mark.row("WP3", "PL32")
@pytest.mark.timeout(500)
def test_a_body_of_100_mb(place: Place) -> None:
    script = """
    import os, sys, celery
    app = celery.Celery(broker=os.environ["BROKER"], backend=os.environ["BACKEND"])
    print(app.send_task("size", ("x" * 100_000_000,)).get(timeout=60))
    """
    with turbo_worker(place):
        assert celery_producer("current", script, env=place.env("celery"), timeout=90) == "100000000\n"


@pytest.mark.row("WP26", "ST18", "EX20", "ST5", "ST10")
@pytest.mark.timeout(500)
def test_replies_reach_a_client_that_waits(runs: Runs, version: str) -> None:
    side = runs.side("turbo", version, "rpc")
    assert {case: seen for case, seen in side.outcomes.items() if seen["state"] != seen["expected"]} == {}
    assert side.passed >= {
        "retried_in_view RETRY", "retried_in_view SUCCESS", "tracked_in_view STARTED", "progress_in_view PROGRESS",
    }  # fmt: skip
    by_redis = runs.side("turbo", version)
    for case, seen in side.outcomes.items():
        other: dict[str, Any] = by_redis.outcomes[case]
        if case.startswith(("value_", "error_")):
            assert (seen.get("repr"), seen.get("args")) == (other.get("repr"), other.get("args")), case
