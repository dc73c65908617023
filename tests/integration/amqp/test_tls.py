"""TLS to the broker: certificates are checked, and a handshake that hangs does not hang us.

The TLS ends in a little proxy in front of the plain broker: it is our side that is under test.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.harness.rabbitmq import RabbitMQ
from tests.integration.amqp.collector import Collector, LagProbe, come_to, linked, publish, run
from turbo.amqp.tls import TlsOptions
from turbo.exceptions import ImproperlyConfigured

pytestmark = pytest.mark.row("WP28")


@dataclass(frozen=True)
class Certificates:
    """Files of one little authority: a server for 127.0.0.1 and one for another name; and a stranger's CA."""

    ca: str
    good: tuple[str, str]
    wrong_host: tuple[str, str]
    expired: tuple[str, str]
    stranger: str


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def make_ca(folder: Path, name: str) -> tuple[str, str]:
    key, cert = str(folder / f"{name}.key"), str(folder / f"{name}.pem")
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "30",
            "-subj", f"/CN={name}", "-addext", "keyUsage=critical,keyCertSign,cRLSign")  # fmt: skip
    return key, cert


def make_server(folder: Path, name: str, alt: str, ca: tuple[str, str], *dates: str) -> tuple[str, str]:
    key, request, cert = (str(folder / f"{name}.{ending}") for ending in ("key", "csr", "pem"))
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", request, "-subj", f"/CN={name}")
    extensions = folder / f"{name}.ext"
    extensions.write_text(f"subjectAltName={alt}\n")
    openssl("x509", "-req", "-in", request, "-CAkey", ca[0], "-CA", ca[1], "-CAcreateserial", "-out", cert,
            "-extfile", str(extensions), *(dates or ("-days", "30")))  # fmt: skip
    return cert, key


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")
    ca = make_ca(folder, "authority")
    return Certificates(
        ca[1],
        make_server(folder, "good", "IP:127.0.0.1,DNS:localhost", ca),
        make_server(folder, "wrong", "DNS:another.example.org", ca),
        make_server(folder, "expired", "IP:127.0.0.1", ca, "-days", "-1"),
        make_ca(folder, "stranger")[1],
    )


@contextlib.asynccontextmanager
async def tls_front(target: int, certificate: tuple[str, str] | None) -> AsyncIterator[int]:
    """A port that ends TLS and forwards to the broker; without a certificate it never answers."""
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
    tasks: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ssl.SSLError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if certificate is None:
            with contextlib.suppress(OSError):
                while await reader.read(65536):
                    pass
            writer.close()
            return
        there, back = await asyncio.open_connection("127.0.0.1", target)
        for one, other in ((reader, back), (there, writer)):
            task = asyncio.get_running_loop().create_task(pump(one, other))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def tls_url(port: int, plain: str) -> str:
    return f"amqps://guest:guest@127.0.0.1:{port}/{plain.rpartition('/')[2]}"


def test_a_verified_connection_works_large_bodies_included(
    vhost: str, rabbitmq: RabbitMQ, certificates: Certificates
) -> None:
    bodies = [b"%d" % number * 50 for number in range(500)] + [b"large" * 400_000]

    async def scenario() -> None:
        publish(vhost, "q", bodies)
        sink = Collector()
        async with tls_front(rabbitmq.port, certificates.good) as port:
            options = TlsOptions(ca_certs=certificates.ca)
            async with linked(tls_url(port, vhost), ["q"], sink, tls=options):
                await sink.until(lambda: len(sink.bodies) == len(bodies), "all messages")
        assert sink.bodies == bodies

    run(scenario())


@pytest.mark.parametrize("case", ["self-made authority", "wrong host", "expired"])
def test_a_certificate_that_does_not_fit_is_refused(
    case: str, vhost: str, rabbitmq: RabbitMQ, certificates: Certificates
) -> None:
    server, trusted = {
        "self-made authority": (certificates.good, certificates.stranger),
        "wrong host": (certificates.wrong_host, certificates.ca),
        "expired": (certificates.expired, certificates.ca),
    }[case]

    async def scenario() -> None:
        sink = Collector()
        async with tls_front(rabbitmq.port, server) as port:
            options = TlsOptions(ca_certs=trusted)
            async with linked(tls_url(port, vhost), ["q"], sink, tls=options, ready=False) as link:
                await come_to(lambda: link.last_error is not None, "an attempt has failed")
                assert not await link.wait_ready(1.0)
                assert link.last_error is not None
                assert "certificate verify failed" in link.last_error
        assert not sink.events

    run(scenario())


def test_verification_can_be_given_up_explicitly(vhost: str, rabbitmq: RabbitMQ, certificates: Certificates) -> None:
    async def scenario() -> None:
        async with tls_front(rabbitmq.port, certificates.wrong_host) as port:
            async with linked(tls_url(port, vhost), ["q"], Collector(), tls=TlsOptions(cert_reqs=ssl.CERT_NONE)):
                pass

    run(scenario())


def test_the_wrong_port_is_an_error_and_not_a_hang(vhost: str, rabbitmq: RabbitMQ, certificates: Certificates) -> None:
    async def scenario() -> None:
        sink = Collector()
        async with linked(tls_url(rabbitmq.port, vhost), ["q"], sink, ready=False) as tls_to_plain:
            await come_to(lambda: bool(tls_to_plain.last_error), "an attempt has failed")
            assert not await tls_to_plain.wait_ready(1.0)
        async with tls_front(rabbitmq.port, certificates.good) as port:
            url = tls_url(port, vhost).replace("amqps", "amqp")
            async with linked(url, ["q"], sink, ready=False, connection_timeout=0.3) as plain_to_tls:
                await come_to(lambda: bool(plain_to_tls.last_error), "an attempt has failed")
                assert not await plain_to_tls.wait_ready(1.0)
        assert not sink.events

    run(scenario())


def test_a_handshake_that_hangs_is_given_up_without_blocking_the_loop(vhost: str, rabbitmq: RabbitMQ) -> None:
    async def scenario() -> None:
        async with tls_front(rabbitmq.port, None) as port, LagProbe() as probe:
            sink = Collector()
            url = tls_url(port, vhost)
            async with linked(url, ["q"], sink, ready=False, connection_timeout=0.3) as link:
                await come_to(lambda: link.last_error is not None, "the attempt has been given up")
        assert probe.worst < 0.5

    run(scenario())


def test_files_that_do_not_load_are_an_error_at_once() -> None:
    async def scenario() -> None:
        with pytest.raises(ImproperlyConfigured, match="nowhere"):
            async with linked("amqps://h", ["q"], Collector(), tls=TlsOptions(ca_certs="/nowhere.pem")):
                pass

    run(scenario())
