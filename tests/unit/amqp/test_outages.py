"""What a worker logs of broker trouble: one line over all connections, with reason, delay and hint."""

from __future__ import annotations

import logging

import pika.exceptions
import pytest
from pika.adapters.utils import connection_workflow as workflow

from turbo.amqp.connect_errors import ConnectFailed, reason_of
from turbo.amqp.fast_connection import _silence_pika
from turbo.amqp.outages import Outages

LABEL = "amqp://guest:**@host:5672/"


class Clock:
    """Seconds that a test moves on."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_one_line_an_outage_over_all_links(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    outages = Outages(clock)
    refused = ConnectFailed("ConnectionRefusedError: [Errno 111]\nConnection refused")
    for failures in range(1, 300):
        for link in ("consuming", "publishing", "remote control"):
            outages.failed(link, LABEL, refused, 2.5, failures)
        clock.now += 0.5
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 4, "at 0, 10, 30 and 70 seconds"
    assert lines[0] == (
        f"consumer: Cannot connect to {LABEL}: ConnectionRefusedError: [Errno 111] Connection refused. Trying again in "
        "2.50 seconds... (failed attempts so far: 1); hint: nothing listens there: start the broker, or correct host "
        "and port in broker_url"
    )
    caplog.clear()
    for link in ("consuming", "publishing", "remote control"):
        outages.connected(link)
    assert [record.getMessage() for record in caplog.records] == [
        "The connection to the broker is established again, after 149.5 s"
    ]


def test_a_loss_is_one_line_too(caplog: pytest.LogCaptureFixture) -> None:
    outages = Outages(Clock())
    for link in ("consuming", "publishing", "remote control"):
        outages.lost(link, "StreamLostError: reset")
    outages.failed("consuming", LABEL, ConnectFailed("timed out"), 1.0, 1)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == (
        "consumer: Connection to broker lost. Trying to re-establish the connection... "
        "(consuming: StreamLostError: reset)"
    )


def test_an_unexpected_error_keeps_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    failed = ConnectFailed("KeyError: 'x'")
    failed.__cause__ = KeyError("x")
    Outages(Clock()).failed("consuming", LABEL, failed, 1.0, 1)
    assert caplog.records[0].exc_info and caplog.records[0].exc_info[1] is failed.__cause__


def test_an_alarm_is_one_line_and_ends_readiness(caplog: pytest.LogCaptureFixture) -> None:
    outages = Outages(Clock())
    outages.set_blocked("publishing", True, "low on memory")
    outages.set_blocked("remote control", True, "low on memory")
    assert outages.blocked
    outages.set_blocked("publishing", False)
    assert outages.blocked
    outages.set_blocked("remote control", False)
    assert not outages.blocked
    first, last = (record.getMessage() for record in caplog.records)
    assert "low on memory" in first and "not ready" in first
    assert last == "The broker takes messages again: its alarm is over"


def test_a_lost_connection_is_not_blocked_any_more() -> None:
    outages = Outages(Clock())
    outages.set_blocked("publishing", True, "low on disk")
    outages.lost("publishing", "gone")
    assert not outages.blocked


@pytest.mark.parametrize(
    ("reason", "refused", "hint"),
    [
        ("ProbableAuthenticationError: (403) 'ACCESS_REFUSED - Login was refused using PLAIN'", True, "password"),
        ("ProbableAccessDeniedError: (530) 'NOT_ALLOWED - vhost nope not found'", True, "create the virtual host"),
        ("AccessDenied: (530) NOT_ALLOWED - access to vhost '/' refused for user 'u'", True, "permissions"),
        ("ProbableAccessDeniedError: (530) 'NOT_ALLOWED - vhost x is down'", False, "starting or stopping"),
        ("ProbableAccessDeniedError: (530) 'NOT_ALLOWED - node connection limit (1) is reached'", False, "limit"),
        ("SSLCertVerificationError: [SSL: CERTIFICATE_VERIFY_FAILED] self-signed", True, "ca_certs"),
        ("SSLError: [SSL: WRONG_VERSION_NUMBER] wrong version number", True, "does not speak TLS"),
        ("ConnectionRefusedError: [Errno 111] Connection refused", False, "nothing listens"),
        ("gaierror: [Errno -2] Name or service not known", False, "host name"),
        ("timed out in the AMQP handshake", False, "firewalls"),
        ("IncompatibleProtocolError: StreamLostError: ('Transport indicated EOF',)", False, "another protocol"),
        ("KeyError: 'x'", False, ""),
    ],
)
def test_reasons_are_told_apart(reason: str, refused: bool, hint: str) -> None:
    failed = ConnectFailed(reason)
    assert failed.refused is refused
    assert (hint in failed.hint) if hint else failed.hint == ""


def test_a_reason_is_taken_out_of_its_wrappings() -> None:
    inner = ConnectionRefusedError(111, "Connection\nrefused")
    wrapped = workflow.AMQPConnectionWorkflowFailed([workflow.AMQPConnectorSocketConnectError(inner)])
    assert reason_of(wrapped) == "ConnectionRefusedError: [Errno 111] Connection refused"
    assert reason_of(workflow.AMQPConnectorStackTimeout("Timeout while setting up transport")).startswith("timed out")
    aborted = pika.exceptions.ConnectionOpenAborted('(320): "Timeout while setting up AMQP"')
    assert reason_of(aborted) == "timed out in the AMQP handshake"


@pytest.mark.parametrize("level", [logging.NOTSET, logging.WARNING, logging.CRITICAL])
def test_pika_is_silent(level: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    pika_logger = logging.getLogger("pika")
    monkeypatch.setattr(pika_logger, "level", level)
    _silence_pika()
    logging.getLogger("pika.adapters.utils.io_services_utils").critical("a traceback")
    assert not caplog.records
    pika_logger.setLevel(level)


def test_whoever_asks_for_pikas_lines_gets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    pika_logger = logging.getLogger("pika")
    pika_logger.setLevel(logging.DEBUG)
    try:
        _silence_pika()
        assert pika_logger.level == logging.DEBUG
    finally:
        pika_logger.setLevel(logging.NOTSET)
