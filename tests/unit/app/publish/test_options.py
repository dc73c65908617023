from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.unit.app.recording import Recorder
from turbo import current, signals
from turbo.app.base import Turbo
from turbo.app.tasks.context import Context
from turbo.exceptions import Retry


@pytest.mark.row("CA2")
class TestUnknown:
    def test_they_are_refused_by_name(self, app: Turbo, sent: Recorder) -> None:
        task = app.task(name="t")(lambda: None)
        with pytest.raises(TypeError, match=r"no option countdwon= \(did you mean countdown=\?\), colour=$"):
            task.apply_async(countdwon=5, colour="red")
        with pytest.raises(TypeError, match="colour="):
            app.send_task("t", colour="red")
        with pytest.raises(TypeError, match="serializer="):
            app.send_task("t", content_type="application/json")
        assert not sent.sent

    def test_a_retry_with_one_fails_and_sends_nothing(self, app: Turbo, sent: Recorder) -> None:
        task = app.task(name="t", bind=True)(lambda self: self.retry(countdwon=5))
        token = current.push(task, Context(id="i", called_directly=False, args=(), kwargs={}))
        try:
            with pytest.raises(TypeError, match="countdown="):
                task.run()
        finally:
            current.pop(token)
        assert not sent.sent

    def test_a_stamp_is_no_option(self, app: Turbo, sent: Recorder) -> None:
        app.send_task("t", stamped_headers=["colour"], colour="red")
        assert sent.last.headers["stamps"] == {"colour": "red"}

    def test_every_option_of_a_repeated_call_is_known(self, app: Turbo, sent: Recorder) -> None:
        task = app.task(name="t", bind=True)(lambda self: self.retry(countdown=1))
        request = Context(
            id="i", called_directly=False, args=(), kwargs={}, stamped_headers=["colour"], stamps={"colour": "red"},
            delivery_info={"exchange": "x", "routing_key": "k", "priority": 2}, is_eager=False,
        )  # fmt: skip
        token = current.push(task, request)
        try:
            with pytest.raises(Retry):
                task.run()
        finally:
            current.pop(token)
        assert sent.last.headers["stamps"] == {"colour": "red"}


class TestProperties:
    def test_they_are_those_of_the_message(self, app: Turbo, sent: Recorder) -> None:
        app.send_task(
            "t", message_id="m", timestamp=1_700_000_000, type="kind", user_id="guest", app_id="shop",
            cluster_id="c", correlation_id="other", expiration=1.5,
        )  # fmt: skip
        found = sent.last.properties
        assert (found.message_id, found.timestamp, found.type) == ("m", 1_700_000_000, "kind")
        assert (found.user_id, found.app_id, found.cluster_id) == ("guest", "shop", "c")
        assert (found.correlation_id, found.expiration) == ("other", "1500")

    @pytest.mark.parametrize("when", [datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1)])
    def test_a_timestamp_is_a_time(self, app: Turbo, sent: Recorder, when: datetime) -> None:
        app.send_task("t", timestamp=when)
        assert sent.last.properties.timestamp == 1_704_067_200

    def test_expires_comes_before_expiration(self, app: Turbo, sent: Recorder) -> None:
        app.send_task("t", expires=-5, expiration=100)
        assert sent.last.properties.expiration == "0"
        app.send_task("t", expires=60 * 86_400, expiration=100)
        assert sent.last.properties.expiration is None, "longer than the broker can count"

    def test_an_expiration_is_a_number(self, app: Turbo, sent: Recorder) -> None:
        with pytest.raises(TypeError, match="expiration must be seconds"):
            app.send_task("t", expiration="60000")


class TestReceivers:
    @pytest.fixture
    def seen(self) -> Iterator[list[dict[str, Any]]]:
        """What receivers of before_task_publish were given."""
        found: list[dict[str, Any]] = []

        def before(**given: Any) -> None:
            found.append({**given, "properties": dict(given["properties"])})
            given["properties"].update(app_id="added", timestamp=datetime(2024, 1, 1, tzinfo=UTC), expiration=2)
            given["properties"].pop("type", None)

        signals.before_task_publish.connect(before)
        yield found
        assert signals.before_task_publish.disconnect(before)

    @pytest.mark.row("SG1")
    def test_they_see_and_change_every_property(self, app: Turbo, sent: Recorder, seen: list[dict[str, Any]]) -> None:
        app.send_task("t", type="kind", message_id="m", expiration=0.25)
        given = seen[0]["properties"]
        assert (given["type"], given["message_id"], given["expiration"]) == ("kind", "m", 0.25)
        found = sent.last.properties
        assert (found.app_id, found.timestamp, found.expiration) == ("added", 1_704_067_200, "2000")
        assert (found.type, found.message_id) == (None, "m")

    @pytest.mark.row("SG1")
    def test_they_see_the_policy_of_the_call(self, app: Turbo, sent: Recorder, seen: list[dict[str, Any]]) -> None:
        app.send_task("t", retry=False, retry_policy={"max_retries": 7})
        assert seen[0]["retry_policy"]["max_retries"] == 7
        assert seen[0]["retry_policy"]["interval_max"] == 1
