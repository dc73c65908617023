"""A broker that refuses the worker, or its queues: named in one line, never ready, and a start that ends with 69."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from celery import Celery

from tests.adversity.lifecycle.conftest import READY, MakeWorker
from tests.harness.fault_proxy import FaultProxy
from tests.harness.processes import free_port, wait_until
from tests.harness.rabbitmq import RabbitMQ, vhost_of
from tests.harness.worker import WorkerProcess

TROUBLE = re.compile(r"^\[[^]]*(WARNING|ERROR|CRITICAL)/MainProcess\] (?!running as root)(.*)")
LASTED = re.compile(r"failed attempts so far: \d+, for (\d+) s")
#: What a slow machine makes a worker say: a child that it ended, and a connection that is still being made.
SLOW = re.compile("died: shutdown|Remote control is not reachable yet")


def broker_errors(worker: WorkerProcess, since: int = 0) -> list[str]:
    """What the master has logged above INFO, but for what any worker may say."""
    found = map(TROUBLE.match, worker.output.splitlines()[since:])
    return [match[2] for match in found if match and not SLOW.search(match[2])]


def said_once(lines: list[str]) -> bool:
    """Whether the first line is of an outage, and each further one is of ten seconds of it or more."""
    return bool(lines) and all((lasted := LASTED.search(line)) and int(lasted[1]) >= 10 for line in lines[1:])


def allow(rabbitmq: RabbitMQ, vhost: str, configure: str) -> None:
    """What the user may declare: a regular expression of names."""
    rabbitmq.evaluate(
        f'rabbit_auth_backend_internal:set_permissions(<<"guest">>, <<"{vhost_of(vhost)}">>, '
        f'<<"{configure}">>, <<".*">>, <<".*">>, <<"tests">>)'
    )


@pytest.mark.row("CN15")
@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (lambda url: url.replace("guest:guest", "guest:wrong"), "check the user and the password"),
        (lambda url: url + "-missing", "create the virtual host"),
        (lambda url: url.replace("amqp://", "amqps://"), "does not speak TLS"),
    ],
    ids=["wrong password", "missing virtual host", "no TLS there"],
)
def test_a_start_that_is_refused_ends_with_69(
    change: Callable[[str], str], hint: str, make_worker: MakeWorker, vhost: str
) -> None:
    with make_worker("-c", "1", broker=change(vhost)) as worker:
        assert worker.wait() == 69
        # The outage is said once, and again at rising intervals where its few tries take that long.
        *outage, last = broker_errors(worker)
        assert outage and all("consumer: " in line and hint in line for line in outage)
        assert outage[0].startswith("consumer: Cannot connect to ")
        assert "the broker refuses this worker" in last and "gives up" in last and hint in last
        assert "guest:wrong" not in worker.output


@pytest.mark.row("CN15")
def test_a_start_waits_for_a_broker_that_refuses_it_when_set_so(
    make_worker: MakeWorker, rabbitmq: RabbitMQ, vhost: str
) -> None:
    rabbitmq.delete_vhost(vhost)
    with make_worker("-c", "1", "--", "broker.connection_retry_on_startup=true") as worker:
        worker.wait_for_line("create the virtual host")
        name = vhost_of(vhost)
        rabbitmq.evaluate(f'rabbit_vhost:add(<<"{name}">>, <<"tests">>)')
        allow(rabbitmq, vhost, ".*")
        worker.wait_for_line(READY)
        worker.terminate()
        assert worker.wait() == 0


@pytest.mark.row("CN15")
def test_a_start_without_a_queue_that_works_ends_with_69(
    make_worker: MakeWorker, rabbitmq: RabbitMQ, vhost: str
) -> None:
    allow(rabbitmq, vhost, "^$")
    with make_worker("-c", "1", "--", "broker.connection_timeout=2") as worker:
        assert worker.wait() == 69
        # Repeated at rising intervals, as an outage is.
        *refused, last = broker_errors(worker)
        assert refused and all(line.startswith("queue 'celery' could not be declared") for line in refused)
        assert "set_permissions" in refused[0]
        assert "none of its queues (celery)" in last
        assert not re.search(READY, worker.output)


@pytest.mark.row("CN28")
def test_a_worker_is_ready_while_it_consumes_and_says_what_is_refused(
    make_worker: MakeWorker, rabbitmq: RabbitMQ, vhost: str
) -> None:
    allow(rabbitmq, vhost, "^(?!secret).*")
    client = Celery("client", broker=vhost, set_as_current=False)

    def pongs() -> bool:
        return bool(client.control.inspect(timeout=5, limit=1).ping())

    with client, make_worker("-c", "1", "-Q", "celery,secret") as worker:
        worker.wait_for_line(READY)
        wait_until("pong", pongs, 60)
        (found,) = client.control.inspect(timeout=60, limit=1).active_queues().values()
        assert [queue["name"] for queue in found] == ["celery"]
        (line,) = broker_errors(worker)
        assert line.startswith("queue 'secret' could not be declared") and "set_permissions" in line
        allow(rabbitmq, vhost, "^(?!secret|celery$).*")
        rabbitmq.evaluate(
            f'{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"{vhost_of(vhost)}">>, queue, <<"celery">>)), '
            'rabbit_amqqueue:delete(Q, false, false, <<"tests">>)'
        )
        worker.wait_for_line("queue 'celery' could not be declared")
        wait_until("a worker that consumes nothing does not say pong", lambda: not pongs(), 60)
        (found,) = client.control.inspect(timeout=60, limit=1).active_queues().values()
        assert found == []
        allow(rabbitmq, vhost, ".*")
        wait_until("pong", pongs, 60)
        worker.terminate()
        assert worker.wait() == 0


def test_an_alarm_is_named_and_ends_readiness(make_worker: MakeWorker, rabbitmq: RabbitMQ, vhost: str) -> None:
    with make_worker("-c", "1") as worker, Celery("client", broker=vhost, set_as_current=False) as client:
        worker.wait_for_line(READY)
        rabbitmq.evaluate("vm_memory_monitor:set_vm_memory_high_watermark(0.00001)")
        try:
            # Its heartbeats publish, and whoever publishes is blocked.
            worker.wait_for_line("The broker blocks this worker's messages.*not ready")
        finally:
            rabbitmq.evaluate("vm_memory_monitor:set_vm_memory_high_watermark(0.4)")
        worker.wait_for_line("takes messages again")
        wait_until("pong", lambda: bool(client.control.inspect(timeout=5, limit=1).ping()), 60)
        assert len(broker_errors(worker)) == 2
        worker.terminate()
        assert worker.wait() == 0


@pytest.mark.row("CN12")
def test_an_outage_is_one_line_over_all_connections(
    make_worker: MakeWorker, fault_proxy: FaultProxy, vhost: str
) -> None:
    broker = f"amqp://guest:guest@127.0.0.1:{fault_proxy.port}/{vhost_of(vhost)}"
    with make_worker("-c", "2", broker=broker) as worker:
        worker.wait_for_line(READY)
        wait_until("connections to consume, to publish, and for remote control", lambda: fault_proxy.live == 3, 60)
        mark = worker.mark()
        fault_proxy.refuse()
        fault_proxy.rst()
        worker.wait_for_line("Connection to broker lost", since=mark)
        fault_proxy.pass_through()
        worker.wait_for_line("established again", since=mark)
        lost, *still_away, back = broker_errors(worker, mark)
        assert "Connection to broker lost" in lost and "established again" in back
        assert said_once([lost, *still_away])
        worker.terminate()
        assert worker.wait() == 0


def test_a_handshake_that_stalls_is_one_line_too(make_worker: MakeWorker, fault_proxy: FaultProxy, vhost: str) -> None:
    fault_proxy.blackhole()
    broker = f"amqp://guest:guest@127.0.0.1:{fault_proxy.port}/{vhost_of(vhost)}"
    with make_worker("-c", "1", "--", "broker.connection_timeout=0.5", broker=broker) as worker:
        worker.wait_for_line("Cannot connect to .* timed out in the AMQP handshake.*check firewalls")
        wait_until("several attempts hang", lambda: fault_proxy.accepted >= 6, 60)
        assert said_once(broker_errors(worker))
        assert "Traceback" not in worker.output
        worker.terminate()
        assert worker.wait() == 0


def test_a_second_worker_of_the_name_is_named_once(make_worker: MakeWorker) -> None:
    same_name = ("-c", "1", "-n", "twin@here")
    with make_worker(*same_name) as first:
        first.wait_for_line(READY)
        with make_worker(*same_name) as second:
            second.wait_for_line("Another worker named 'twin@here' .* with -n")
            second.wait_for_line(READY)
            first.terminate()
            assert first.wait() == 0
            assert len(broker_errors(second)) == 1
            second.terminate()
            assert second.wait() == 0


def test_nothing_listens(make_worker: MakeWorker) -> None:
    with make_worker("-c", "1", broker=f"amqp://127.0.0.1:{free_port()}") as worker:
        worker.wait_for_line("Cannot connect to .*refused.*hint: nothing listens there.*")
        worker.terminate()
        assert worker.wait() == 0
        assert not [line for line in worker.output.splitlines() if "pika" in line or "AMQPConnect" in line]
