"""Flower and exporters for Prometheus beside a fleet, and what they say by HTTP."""

from __future__ import annotations

import contextlib
import json
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.harness.celery_env import EXPORTER, celery_python
from tests.harness.processes import free_port, wait_until
from tests.harness.worker import WorkerProcess
from tests.integration.events.conftest import Site

APP = "tests.ecosystem.patient"
_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Metrics:
    """What a program shows to Prometheus at one moment."""

    def __init__(self, page: str) -> None:
        found = [sample for line in page.splitlines() if (sample := _SAMPLE.match(line)) is not None]
        self._samples = [(one[1], set(_LABEL.findall(one[2] or "")), float(one[3])) for one in found]

    def sample(self, name: str, /, **labels: str) -> float:
        """Return the sum of the samples of a metric with these labels; 0 if there are none."""
        wanted = set(labels.items())
        return sum(value for metric, found, value in self._samples if metric == name and wanted <= found)


class Web:
    """A program with a web server on this machine."""

    def __init__(self, process: WorkerProcess, port: int) -> None:
        self.process = process
        self.root = f"http://127.0.0.1:{port}"

    def get(self, path: str, **query: Any) -> str:
        """Return a page."""
        with urllib.request.urlopen(f"{self.root}{path}?{urllib.parse.urlencode(query)}", timeout=90) as answer:
            text: str = answer.read().decode()
            return text

    def json(self, path: str, **query: Any) -> Any:
        """Return a page that is JSON."""
        return json.loads(self.get(path, **query))

    def post(self, path: str, **form: Any) -> str:
        """Post a form; return the message of the answer."""
        message: str = self._post(path, urllib.parse.urlencode(form).encode())["message"]
        return message

    def post_json(self, path: str, **body: Any) -> Any:
        """Post JSON; return the answer."""
        return self._post(path, json.dumps(body).encode())

    def _post(self, path: str, body: bytes) -> Any:
        try:
            with urllib.request.urlopen(f"{self.root}{path}", body, timeout=90) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path}: {error.code} {error.read().decode()}") from error

    def try_post(self, path: str) -> None:
        """Post a form; the answer may come too late."""
        with contextlib.suppress(urllib.error.HTTPError):
            urllib.request.urlopen(f"{self.root}{path}", b"", timeout=90).close()

    def refused(self, path: str, **form: Any) -> str:
        """Post a form that the server refuses; return why."""
        with pytest.raises(AssertionError) as caught:
            self.post(path, **form)
        return str(caught.value)

    def metrics(self) -> Metrics:
        """Return what the program shows to Prometheus."""
        return Metrics(self.get("/metrics"))

    def sample(self, name: str, /, **labels: str) -> float:
        """Return the sum of the samples of a metric with these labels; 0 if there are none."""
        return self.metrics().sample(name, **labels)

    def answers(self, path: str) -> bool:
        """Whether the server answers."""
        try:
            self.get(path)
        except OSError:
            return False
        return True


@contextlib.contextmanager
def _web(
    site: Site, name: str, arguments: Callable[[int], tuple[str, ...]], *, app: str = "celery", path: str = "/metrics",
    python: str = sys.executable,
) -> Iterator[Web]:  # fmt: skip
    """Run a monitor on a port; yield it when it answers and hears events."""
    port, before = free_port(), _listening(site)
    env = {**site.env, "KIND": app, "FLOWER_UNAUTHENTICATED_API": "true"}
    with WorkerProcess(*arguments(port), directory=site.directory, env=env, command=(python,)) as process:
        web = Web(process, port)
        wait_until(f"{name} answers", lambda: web.answers(path), 90)
        wait_until(f"{name} hears events", lambda: _listening(site) > before, 90)
        yield web


@contextlib.contextmanager
def flower(site: Site, app: str, *options: str) -> Iterator[Web]:
    """Flower for the broker of a site, with an app of ``turbo``'s or of ``celery``'s."""

    def arguments(port: int) -> tuple[str, ...]:
        own = (f"--port={port}", "--address=127.0.0.1", "--inspect_timeout=10000", *options)
        return ("-m", "celery", "-A", APP, "flower", *own)

    with _web(site, "Flower", arguments, app=app) as web:
        yield web


@contextlib.contextmanager
def exporter(site: Site) -> Iterator[Web]:
    """celery-prometheus-exporter for the broker of a site."""

    def arguments(port: int) -> tuple[str, ...]:
        return ("-m", "celery_prometheus_exporter", "--broker", site.vhost, "--addr", f"127.0.0.1:{port}")

    with _web(site, "the exporter", arguments) as web:
        yield web


@contextlib.contextmanager
def queue_exporter(site: Site) -> Iterator[Web]:
    """celery-exporter for the broker of a site, which labels by queue."""
    program = "from src.cli import cli; cli(auto_envvar_prefix='CE')"

    def arguments(port: int) -> tuple[str, ...]:
        return ("-c", program, "--broker-url", site.vhost, "--host", "127.0.0.1", "--port", str(port))

    with _web(site, "celery-exporter", arguments, path="/health", python=str(celery_python(EXPORTER))) as web:
        yield web


def _listening(site: Site) -> int:
    return sum(name.startswith("celeryev.") for name in site.rabbitmq.queues(site.vhost))
