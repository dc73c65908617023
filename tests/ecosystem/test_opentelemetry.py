"""opentelemetry-instrumentation-celery, set up in the children as its documentation says: the spans that come of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.harness.celery_env import celery_producer
from tests.integration.adopted.place import READY, Place

APP = """
from opentelemetry import trace
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

def instrument(path):
    provider = TracerProvider()
    exporter = ConsoleSpanExporter(out=open(path, "a"), formatter=lambda span: span.to_json(indent=None) + "\\n")
    # So long a delay that nothing is written before the provider is shut down.
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=600_000))
    trace.set_tracer_provider(provider)
    CeleryInstrumentor().instrument()
    return provider

@signals.worker_process_init.connect(weak=False)
def start(**_):
    global provider
    provider = instrument(os.environ["SPANS"])

@signals.worker_process_shutdown.connect(weak=False)
def stop(**_):
    provider.shutdown()

@app.task(name="proj.outer")
def outer():
    inner.delay("from within")
    return format(trace.get_current_span().get_span_context().span_id, "016x")

@app.task(name="proj.inner")
def inner(what):
    raise ValueError(what)

@app.task(name="proj.again", bind=True, max_retries=1)
def again(self):
    if not self.request.retries:
        raise self.retry(countdown=0, exc=KeyError("once more"))
"""

CLIENT = """
import sys
from proj import again, instrument, outer

provider = instrument(sys.argv[1])
sent = outer.delay()
within = sent.get(timeout=60)
again.delay().get(timeout=60)
print(sent.id, within)
provider.shutdown()
"""


def spans(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def named(name: str, found: list[dict[str, Any]]) -> dict[str, Any]:
    (span,) = [span for span in found if span["name"] == name]
    return span


@pytest.mark.row("EC7")
def test_spans_of_publishing_and_running_are_one_trace(place: Place) -> None:
    place.write(APP)
    told, kept = place.directory / "client.jsonl", place.directory / "worker.jsonl"
    with place.worker("-c", "1", env={"SPANS": str(kept)}) as worker:
        worker.wait_for_line(READY, timeout=60)
        printed = celery_producer("current", CLIENT, str(told), env=place.client_env)
        worker.wait_for_line(r"proj\.inner.*raised unexpected")
        worker.terminate()
        assert worker.wait() == 0
    task_id, within = printed.split()
    sent, ran = spans(told), spans(kept)
    publish, run = named("apply_async/proj.outer", sent), named("run/proj.outer", ran)
    assert (publish["kind"], run["kind"]) == ("SpanKind.PRODUCER", "SpanKind.CONSUMER")
    assert run["context"]["trace_id"] == publish["context"]["trace_id"]
    assert run["parent_id"] == publish["context"]["span_id"]
    assert run["context"]["span_id"] == f"0x{within}", "the body sees the span"
    assert run["attributes"]["celery.state"] == "SUCCESS"
    assert run["attributes"]["messaging.message.id"] == task_id
    assert run["attributes"]["messaging.destination"] == "celery"
    # What a task sends belongs to its own span, and a failure is recorded on the span of the task that fails.
    inner_sent, inner = named("apply_async/proj.inner", ran), named("run/proj.inner", ran)
    assert inner_sent["parent_id"] == run["context"]["span_id"]
    assert inner["parent_id"] == inner_sent["context"]["span_id"]
    assert inner["status"] == {"status_code": "ERROR", "description": "from within"}
    assert [event["attributes"]["exception.type"] for event in inner["events"]] == ["ValueError"]
    attempts = [span["attributes"] for span in ran if span["name"] == "run/proj.again"]
    assert [found["celery.state"] for found in attempts] == ["RETRY", "SUCCESS"]
    assert "once more" in attempts[0]["celery.retry.reason"]
