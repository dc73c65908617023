"""The blocking publisher against a real RabbitMQ, through proxies that misbehave, threads and forks."""

from __future__ import annotations

import logging
import os
import select
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pika
import pytest

from tests.harness.fault_proxy import FaultProxy
from tests.harness.processes import free_port, wait_until
from tests.harness.rabbitmq import RabbitMQ, vhost_of
from turbo.amqp.client.connection import ConnectionGone, Refused, Unconfirmed
from turbo.amqp.client.publisher import ClientPublisher
from turbo.amqp.topology import Binding, Exchange, Queue, task_queue
from turbo.amqp.url import parse_broker_urls
from turbo.exceptions import OperationalError
from turbo.policy.publish_retry import ONCE, PublishRetry
from turbo.protocol.properties import Properties, encode_header

QUEUE = task_queue("work")


class Client:
    """A publisher whose pauses between attempts are recorded instead of slept, with a reader beside it."""

    def __init__(self, *urls: str, **options: Any) -> None:
        self.pauses: list[float] = []
        self.on_pause = lambda: None
        self.publisher = ClientPublisher(parse_broker_urls(list(urls)), sleep=self._pause, **options)

    def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.on_pause()

    def send(self, body: bytes = b"x", key: str = "work", exchange: str = "", **options: Any) -> None:
        header = encode_header(Properties(delivery_mode=2), len(body))
        options.setdefault("declare", (QUEUE,) if key == "work" else ())
        self.publisher.publish(exchange, key, header, body, **options)


@pytest.fixture
def client(vhost: str) -> Iterator[Client]:
    made = Client(vhost)
    yield made
    made.publisher.close()


@pytest.fixture
def proxied(vhost: str, fault_proxy: FaultProxy) -> Iterator[Client]:
    made = Client(f"amqp://guest:guest@127.0.0.1:{fault_proxy.port}/{vhost_of(vhost)}", timeout=5.0)
    yield made
    made.publisher.close()


def bodies(url: str, queue: str = "work") -> list[bytes]:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        found = []
        while True:
            method, _properties, body = channel.basic_get(queue, auto_ack=True)
            if method is None:
                return found
            found.append(body)


@pytest.mark.row("WP25", "WP27", "P25")
def test_declares_publishes_and_waits_for_the_confirm(client: Client, vhost: str, rabbitmq: RabbitMQ) -> None:
    for body in (b"", b"small", b"m" * 131_064, b"l" * 131_065, b"huge" * 250_000):
        client.send(body)
    facts = rabbitmq.queue("work", vhost)
    assert facts is not None and facts.ready == 5 and facts.durable and not facts.auto_delete
    assert bodies(vhost) == [b"", b"small", b"m" * 131_064, b"l" * 131_065, b"huge" * 250_000]
    # The broker takes its time to forget the connection that has just read the bodies.
    wait_until("one thread to have one connection", lambda: rabbitmq.connections(vhost_of(vhost)) == 1, 60)


def test_topology_of_all_kinds(client: Client, vhost: str) -> None:
    queue = Queue(
        "all",
        Exchange("topic-x", "topic", durable=False, auto_delete=True),
        "a.#",
        queue_arguments={"x-max-priority": 5, "x-message-ttl": 60_000},
        bindings=(Binding(Exchange("fan", "fanout"), "", {"n": 1}),),
    )
    client.send(b"topic", "a.b", "topic-x", declare=(queue,))
    client.send(b"fanout", "whatever", "fan", declare=(queue,))
    assert bodies(vhost, "all") == [b"topic", b"fanout"]


def test_a_queue_with_other_properties_is_used_as_it_is(
    client: Client, vhost: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pika.BlockingConnection(pika.URLParameters(vhost)) as connection:
        connection.channel().queue_declare("work", durable=False)
    with caplog.at_level(logging.WARNING):
        client.send(b"1")
        client.send(b"2")
    assert bodies(vhost) == [b"1", b"2"]
    assert caplog.text.count("other properties") == 1


@pytest.mark.row("CN25")
def test_what_a_quorum_queue_cannot_have_is_left_out_by_producers_too(
    client: Client, vhost: str, caplog: pytest.LogCaptureFixture
) -> None:
    arguments = {"x-queue-type": "quorum", "x-max-priority": 5, "x-queue-mode": "lazy"}
    queue = Queue("many-sided", queue_arguments=arguments)
    with caplog.at_level(logging.WARNING):
        client.send(b"1", "many-sided", "", declare=(queue,))
        client.send(b"2", "many-sided", "", declare=(queue,))
    assert bodies(vhost, "many-sided") == [b"1", b"2"]
    (line,) = [record.getMessage() for record in caplog.records]
    assert "'many-sided'" in line and "x-max-priority" in line and "x-queue-mode" in line and "declared without" in line


@pytest.mark.row("CA29")
def test_unroutable_messages(client: Client) -> None:
    client.send(key="nowhere")
    with pytest.raises(OperationalError, match=r"nowhere.*NO_ROUTE"):
        client.send(key="nowhere", mandatory=True)
    with pytest.raises(Refused, match="404"):
        client.send(key="k", exchange="no-such-exchange")
    assert client.pauses == []
    client.send()


def test_a_queue_deleted_meanwhile_is_made_again(client: Client, vhost: str) -> None:
    client.send(b"1")
    with pika.BlockingConnection(pika.URLParameters(vhost)) as connection:
        connection.channel().queue_delete("work")
    client.send(b"2")
    assert bodies(vhost) == [b"2"]


class TestLostConnections:
    def test_one_closed_while_idle_costs_no_attempt(self, client: Client, vhost: str, rabbitmq: RabbitMQ) -> None:
        client.send(b"1")
        assert rabbitmq.close_all_connections(vhost_of(vhost)) == 1
        (idle,) = client.publisher._idle
        assert select.select([idle._socket], [], [], 60)[0], "the broker's goodbye has arrived"
        client.send(b"2", retry=ONCE)
        assert bodies(vhost) == [b"1", b"2"]

    @pytest.mark.parametrize("fault", ["rst", "fin"])
    def test_one_cut_while_idle(self, proxied: Client, vhost: str, fault_proxy: FaultProxy, fault: str) -> None:
        proxied.send(b"1")
        assert (fault_proxy.rst() if fault == "rst" else fault_proxy.fin("down")) == 1
        proxied.send(b"2")
        assert bodies(vhost) == [b"1", b"2"]

    @pytest.mark.row("CA10")
    @pytest.mark.parametrize("count", [1, 4, 9, 40, 120, 400])
    def test_one_cut_at_any_byte_is_made_good(
        self, proxied: Client, vhost: str, fault_proxy: FaultProxy, count: int
    ) -> None:
        fault_proxy.cut_after(count)
        proxied.on_pause = fault_proxy.pass_through
        proxied.send(b"1")
        assert bodies(vhost) == [b"1"]

    @pytest.mark.row("CA10", "CF11")
    def test_a_broker_that_is_away(self, proxied: Client, vhost: str, fault_proxy: FaultProxy) -> None:
        proxied.send(b"1")
        fault_proxy.refuse()
        with pytest.raises(OperationalError, match="cannot connect"):
            proxied.send(b"lost")
        assert proxied.pauses == [0, 0.2, 0.4]
        fault_proxy.pass_through()
        proxied.send(b"2")
        assert bodies(vhost) == [b"1", b"2"]

    @pytest.mark.row("CA26")
    def test_a_broker_that_never_answers(self, proxied: Client, fault_proxy: FaultProxy) -> None:
        fault_proxy.blackhole()
        with pytest.raises(ConnectionGone, match="did not answer"):
            proxied.send(retry=ONCE)

    @pytest.mark.row("P25")
    def test_a_confirm_that_never_comes_is_not_repeated(
        self, proxied: Client, vhost: str, fault_proxy: FaultProxy
    ) -> None:
        proxied.send(b"1")
        fault_proxy.blackhole()
        with pytest.raises(Unconfirmed, match=r"no confirm.* 0\.3 s"):
            proxied.send(b"2", confirm_timeout=0.3)
        assert proxied.pauses == []
        fault_proxy.pass_through()
        proxied.send(b"3")
        assert bodies(vhost) == [b"1", b"3"]

    @pytest.mark.row("WP24")
    def test_the_next_broker_is_taken(self, vhost: str) -> None:
        client = Client(f"amqp://127.0.0.1:{free_port()}", vhost)
        client.send(b"1", retry=ONCE)
        assert bodies(vhost) == [b"1"]
        client.publisher.close()

    def test_a_restarted_broker(self, client: Client, vhost: str, rabbitmq: RabbitMQ) -> None:
        client.send(b"1")
        rabbitmq.stop_app()
        rabbitmq.start_app()
        client.send(b"2")
        assert bodies(vhost) == [b"1", b"2"]


def test_a_quiet_connection_is_kept_for_ever(client: Client, vhost: str, rabbitmq: RabbitMQ) -> None:
    """Nobody sends heartbeats for a process that rests between two requests, so none are agreed on."""
    client.send(b"1")
    here = f'{{vhost, <<"{vhost_of(vhost)}">>}}'
    asked = (
        "[rabbit_networking:connection_info(P, [timeout]) || P <- rabbit_networking:connections(), "
        f"(catch rabbit_networking:connection_info(P, [vhost])) =:= [{here}]]"
    )
    assert rabbitmq.evaluate(asked) == "[[{timeout,0}]]"


def test_a_broker_that_blocks_publishers(client: Client, vhost: str, rabbitmq: RabbitMQ) -> None:
    def blocked() -> bool:
        # The broker looks at its memory when it finds time to.
        try:
            client.send(b"2", confirm_timeout=5.0)
        except Unconfirmed as error:
            assert "blocks publishers" in str(error)
            return True
        return False

    client.send(b"1")
    rabbitmq.evaluate("vm_memory_monitor:set_vm_memory_high_watermark(0.00001)")
    try:
        wait_until("publishers to be blocked", blocked, 60)
    finally:
        rabbitmq.evaluate("vm_memory_monitor:set_vm_memory_high_watermark(0.4)")
    client.send(b"3")
    found = bodies(vhost)
    assert found[0] == b"1" and found[-1] == b"3", "what was not confirmed may have arrived or not"
    assert client.pauses == [], "a message that may be there is not sent again by itself"


def test_a_wrong_password_is_named_without_showing_it(vhost: str) -> None:
    client = Client(vhost.replace("guest:guest", "guest:wrong"))
    with pytest.raises(OperationalError, match="ACCESS_REFUSED") as raised:
        client.send(retry=ONCE)
    assert "wrong" not in str(raised.value)


def test_something_that_is_no_broker(tmp_path: Any) -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        with listener.accept()[0] as peer:
            peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    thread = threading.Thread(target=answer)
    thread.start()
    client = Client(f"amqp://127.0.0.1:{listener.getsockname()[1]}")
    with pytest.raises(ConnectionGone):
        client.send(retry=ONCE)
    thread.join()
    listener.close()


@pytest.mark.row("WP27")
def test_without_confirms(vhost: str, rabbitmq: RabbitMQ) -> None:
    client = Client(vhost, confirms=False)
    for _ in range(50):
        client.send()
    rabbitmq.wait_queue("work", vhost, ready=50)
    client.publisher.close()


@pytest.mark.row("CA25", "CA27")
def test_many_threads(client: Client, vhost: str, rabbitmq: RabbitMQ) -> None:
    def work(name: int) -> None:
        for turn in range(40):
            client.send(b"%d-%d" % (name, turn))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(14)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(bodies(vhost)) == sorted(b"%d-%d" % (n, t) for n in range(14) for t in range(40))
    wait_until("spare connections to be closed", lambda: rabbitmq.connections(vhost_of(vhost)) <= 10, 60)


def test_a_fork_starts_with_connections_of_its_own(client: Client, vhost: str, rabbitmq: RabbitMQ) -> None:
    client.send(b"parent 1")
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            client.send(b"child")
            os.write(writer, b"sent")
            status = 0
        finally:
            os._exit(status)
    assert os.read(reader, 10) == b"sent"
    assert os.waitpid(pid, 0)[1] == 0
    client.send(b"parent 2", retry=ONCE)
    assert bodies(vhost) == [b"parent 1", b"child", b"parent 2"]
    os.close(reader)
    os.close(writer)


def test_close_says_goodbye_and_leaves_the_publisher_usable(client: Client, vhost: str, rabbitmq: RabbitMQ) -> None:
    client.send()
    client.publisher.close()
    wait_until("the connection to be gone", lambda: rabbitmq.connections(vhost_of(vhost)) == 0, 60)
    client.send()
    assert len(bodies(vhost)) == 2


def test_retrying_for_ever_ends_when_the_broker_is_back(proxied: Client, vhost: str, fault_proxy: FaultProxy) -> None:
    fault_proxy.refuse()

    def after_nine() -> None:
        if len(proxied.pauses) == 9:
            fault_proxy.pass_through()

    proxied.on_pause = after_nine
    proxied.send(b"1", retry=PublishRetry(max_retries=None, interval_max=0.5))
    assert proxied.pauses == pytest.approx([0, 0.2, 0.4, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5])
    assert bodies(vhost) == [b"1"]
