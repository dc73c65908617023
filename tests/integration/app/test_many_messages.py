"""Messages confirmed together, and connections that the program holds, against a real RabbitMQ."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator

import pika
import pytest

from tests.harness.fault_proxy import FaultProxy
from tests.harness.processes import free_port, wait_until
from tests.harness.rabbitmq import RabbitMQ, vhost_of
from turbo import Turbo
from turbo.exceptions import OperationalError


def make_app(url: str, **settings: object) -> Turbo:
    return Turbo("sender", broker=url, set_as_current=False, broker_connection_timeout=10.0, **settings)


@pytest.fixture
def app(vhost: str) -> Iterator[Turbo]:
    with make_app(vhost) as made:
        yield made


@pytest.fixture
def proxied(vhost: str, fault_proxy: FaultProxy) -> Iterator[Turbo]:
    with make_app(f"amqp://guest:guest@127.0.0.1:{fault_proxy.port}/{vhost_of(vhost)}") as made:
        yield made


def arguments(url: str, queue: str = "celery") -> list[object]:
    """The first argument of every message in the queue, in order."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        found = []
        while (answer := channel.basic_get(queue, auto_ack=True))[0] is not None:
            found.append(json.loads(answer[2])[0][0])
        return found


def arguments_left(url: str) -> list[object]:
    """The same, of messages that stay where they are."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        found = []
        while (answer := channel.basic_get("celery"))[0] is not None:
            found.append(json.loads(answer[2])[0][0])
        return found


def one_connection(rabbitmq: RabbitMQ, url: str) -> None:
    # The broker takes its time to forget the connection of a reader that has gone.
    wait_until("one connection to be left", lambda: rabbitmq.connections(vhost_of(url)) == 1, 60)


def delete(url: str, queue: str) -> None:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        connection.channel().queue_delete(queue)


class TestPipeline:
    @pytest.mark.row("AO12", "WP27")
    def test_everything_is_there_when_the_block_ends(self, app: Turbo, vhost: str, rabbitmq: RabbitMQ) -> None:
        with app.pipeline(window=10):
            for number in range(95):
                app.send_task("t", (number,))
        facts = rabbitmq.queue("celery", vhost)
        assert facts is not None and facts.ready == 95
        assert arguments(vhost) == list(range(95))
        one_connection(rabbitmq, vhost)

    def test_a_lost_connection_loses_nothing(self, proxied: Turbo, vhost: str, fault_proxy: FaultProxy) -> None:
        with proxied.pipeline(window=50):
            for number in range(100):
                if number == 70:
                    assert fault_proxy.rst() == 1
                proxied.send_task("t", (number,))
        found = arguments(vhost)
        assert set(found) == set(range(100)), "some may have arrived twice, none not at all"

    def test_a_queue_deleted_meanwhile_is_made_again(self, app: Turbo, vhost: str) -> None:
        with app.pipeline():
            app.send_task("t", (1,))
            with app.pipeline():
                app.send_task("t", (2,))
            assert arguments(vhost) == [1, 2], "an inner block's end is an end too"
            delete(vhost, "celery")
            for number in (3, 4, 5):
                app.send_task("t", (number,))
        assert arguments(vhost) == [3, 4, 5]

    @pytest.mark.row("AO8")
    def test_what_no_queue_takes_is_an_error_at_the_end(self, app: Turbo, vhost: str) -> None:
        with pytest.raises(OperationalError, match=r"nowhere.*312 NO_ROUTE, and 1 more"), app.pipeline():
            for number in range(6):
                lost = number in (1, 3)
                app.send_task(
                    "t", (number,), exchange="amq.direct", routing_key="nowhere" if lost else "celery",
                    mandatory=lost, declare=() if lost else None,
                )  # fmt: skip
            app.send_task("t", (6,))
        assert arguments(vhost) == [6]

    def test_without_an_exchange_the_block_says_what_is_unsure(self, app: Turbo, vhost: str) -> None:
        with pytest.raises(OperationalError, match=r"404.*1 messages? of the pipeline"), app.pipeline():
            app.send_task("t", (1,), exchange="missing", routing_key="k", declare=())
        app.send_task("t", (2,))
        assert arguments(vhost) == [2]

    def test_a_queue_with_other_properties_takes_no_confirm_along(self, app: Turbo, vhost: str) -> None:
        with pika.BlockingConnection(pika.URLParameters(vhost)) as connection:
            connection.channel().queue_declare("odd", durable=False)
        with app.pipeline():
            for queue in ("celery", "celery", "odd", "celery"):
                app.send_task("t", (queue,), queue=queue)
        assert arguments(vhost) == ["celery"] * 3
        assert arguments(vhost, "odd") == ["odd"]

    def test_a_name_too_long_concerns_its_own_message_alone(self, app: Turbo, vhost: str) -> None:
        with app.pipeline():
            app.send_task("t", (1,))
            with pytest.raises(ValueError, match="255 bytes"):
                app.send_task("t", (2,), exchange="x" * 300, routing_key="k", declare=())
            app.send_task("t", (3,))
        assert arguments(vhost) == [1, 3]

    def test_an_error_of_the_program_passes_and_what_was_sent_arrives(self, app: Turbo, vhost: str) -> None:
        with pytest.raises(ZeroDivisionError), app.pipeline():
            app.send_task("t", (1,))
            app.send_task("t", (1 // 0,))
        assert arguments(vhost) == [1]

    def test_a_broker_that_is_away(self) -> None:
        app = make_app(f"amqp://127.0.0.1:{free_port()}")
        with pytest.raises(OperationalError, match="cannot connect"), app.pipeline():
            app.send_task("t", retry=False)

    def test_a_fork_inside_of_it_leaves_it_to_the_parent(self, app: Turbo, vhost: str) -> None:
        with app.pipeline():
            app.send_task("t", (1,))
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    app.send_task("t", (2,))
                    status = 0
                finally:
                    os._exit(status)
            assert os.waitpid(pid, 0)[1] == 0
            app.send_task("t", (3,))
        assert sorted(arguments(vhost)) == [1, 2, 3]


class TestConnections:
    @pytest.mark.row("AO11", "CA25")
    def test_one_of_ones_own_serves_several_calls(self, app: Turbo, vhost: str, rabbitmq: RabbitMQ) -> None:
        add = app.task(name="add")(lambda x: x)
        with app.connection() as connection:
            for number in range(5):
                add.apply_async((number,), connection=connection)
            assert rabbitmq.connections(vhost_of(vhost)) == 1
        assert arguments(vhost) == [0, 1, 2, 3, 4]

    @pytest.mark.row("AO11", "CA25", "CA27")
    def test_those_of_the_pool(self, app: Turbo, vhost: str, rabbitmq: RabbitMQ) -> None:
        with app.pool.acquire(block=True) as connection, app.producer_pool.acquire(block=True) as producer:
            app.send_task("t", (1,), connection=connection)
            app.send_task("t", (2,), producer=producer)
        with app.producer_or_acquire() as producer, app.producer_or_acquire(producer) as same:
            assert same is producer
            app.send_task("t", (3,), publisher=producer)
        with app.connection_or_acquire() as connection:
            app.send_task("t", (4,), connection=connection)
        assert arguments(vhost) == [1, 2, 3, 4]
        one_connection(rabbitmq, vhost)
        assert app.pool.limit == 10

    @pytest.mark.row("CA27")
    def test_so_many_are_kept(self, app: Turbo, vhost: str, rabbitmq: RabbitMQ) -> None:
        def send_from_threads(count: int) -> None:
            meet = threading.Barrier(count)
            threads = [threading.Thread(target=lambda: (meet.wait(30), app.send_task("t", (1,)))) for _ in range(count)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)

        app.conf.broker_pool_limit = 2
        send_from_threads(6)
        wait_until("two to be left", lambda: rabbitmq.connections(vhost_of(vhost)) <= 2, 60)
        app.conf.broker_pool_limit = None
        app.send_task("t", (1,))
        wait_until("none to be left", lambda: rabbitmq.connections(vhost_of(vhost)) == 0, 60)
        assert arguments(vhost) == [1] * 7

    def test_whether_a_broker_is_there_can_be_asked(self, app: Turbo, vhost: str) -> None:
        with app.connection_for_read() as connection:
            assert connection.ensure_connection().as_uri() == app.connection(vhost).as_uri()
        pauses: list[float] = []
        away = app.connection(f"amqp://guest:secret@127.0.0.1:{free_port()}")
        with pytest.raises(OperationalError, match="cannot connect"):
            away.ensure_connection(lambda _error, pause: pauses.append(pause), 2, interval_start=0, interval_step=0)
        assert pauses == [0, 0]
        assert "secret" not in repr(away)

    @pytest.mark.row("CA25")
    def test_another_broker_gets_what_is_sent_over_it(self, app: Turbo, vhost: str, rabbitmq: RabbitMQ) -> None:
        unused = make_app(f"amqp://127.0.0.1:{free_port()}")
        with unused.connection(vhost) as connection:
            unused.send_task("t", (1,), connection=connection)
        assert arguments(vhost) == [1]

    def test_other_libraries_connections_are_refused_by_name(self, app: Turbo) -> None:
        with pytest.raises(TypeError, match="not builtins.object"):
            app.send_task("t", connection=object())


def test_what_waits_can_be_thrown_away(app: Turbo, vhost: str) -> None:
    for number in range(5):
        app.send_task("t", (number,))
    assert app.control.purge() == 5
    assert app.control.purge() == 0
    assert arguments(vhost) == []
    app.send_task("t", (7,))
    assert arguments(vhost) == [7]


class TestFailures:
    @pytest.mark.row("CA26")
    def test_a_call_may_have_less_patience_in_connecting(self, proxied: Turbo, fault_proxy: FaultProxy) -> None:
        proxied.conf.broker_connection_timeout = 300.0
        fault_proxy.blackhole()
        with pytest.raises(OperationalError, match="did not answer"):
            proxied.send_task("t", connect_timeout=0.3, retry=False)

    def test_a_message_that_no_worker_takes_in_time_is_dropped(self, app: Turbo, vhost: str) -> None:
        app.send_task("t", (1,), expiration=0.001)
        app.send_task("t", (2,), message_id="kept", app_id="shop")
        wait_until("the first to be gone", lambda: arguments_left(vhost) == [2], 60)

    @pytest.mark.row("CA28")
    def test_the_task_names_the_error(self) -> None:
        app = make_app(f"amqp://127.0.0.1:{free_port()}")
        lost = app.task(name="lost")(lambda: None)
        with pytest.raises(lost.OperationalError, match="cannot connect"):
            lost.apply_async(retry_policy={"max_retries": 1, "interval_start": 0, "interval_step": 0})
        assert lost.OperationalError is OperationalError

    @pytest.mark.row("AO8", "CA29")
    def test_unroutable_and_mandatory(self, app: Turbo) -> None:
        picky = app.task(name="picky", mandatory=True)(lambda: None)
        with pytest.raises(OperationalError, match="NO_ROUTE"):
            picky.apply_async(exchange="amq.topic", routing_key="a.b", declare=())
        picky.apply_async(exchange="amq.topic", routing_key="a.b", declare=(), mandatory=False)


@pytest.mark.row("CA10", "CA25")
def test_eight_threads_while_the_broker_goes_and_comes_back(app: Turbo, vhost: str, rabbitmq: RabbitMQ) -> None:
    """Every call that returned is in the queue, whatever happened to the connections meanwhile."""
    patient = {"max_retries": None, "interval_start": 0, "interval_step": 0.05, "interval_max": 0.2}
    returned: list[list[int]] = [[] for _ in range(8)]
    failed: list[Exception] = []
    gone, back = threading.Event(), threading.Event()

    def call(mine: list[int], first: int) -> None:
        with app.pipeline(window=7) if first % 2 else contextlib.nullcontext():
            for number in range(first * 1000, first * 1000 + 400):
                try:
                    app.send_task("t", (number,), retry_policy=patient)
                except OperationalError as error:
                    failed.append(error)
                    continue
                mine.append(number)
                if number % 1000 == 100:
                    gone.wait(60)
                if number % 1000 == 300:
                    back.wait(60)

    threads = [threading.Thread(target=call, args=(mine, first)) for first, mine in enumerate(returned)]
    for thread in threads:
        thread.start()
    wait_until("all threads to have begun", lambda: all(len(mine) > 50 for mine in returned), 60)
    rabbitmq.stop_app()
    gone.set()
    rabbitmq.start_app()
    back.set()
    for thread in threads:
        thread.join(60)
    assert not failed
    found = set(arguments(vhost))
    assert [number for mine in returned for number in mine if number not in found] == []
    assert sum(map(len, returned)) == 8 * 400
