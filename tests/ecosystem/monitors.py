"""Flower and an exporter for Prometheus beside a fleet, and what they say by HTTP."""

from __future__ import annotations

import contextlib
import json
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

from tests.harness.processes import free_port, wait_until
from tests.harness.worker import WorkerProcess
from tests.integration.events.conftest import Site

_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Web:
    """A program with a web server on this machine."""

    def __init__(self, process: WorkerProcess, port: int) -> None:
        self.process = process
        self._root = f"http://127.0.0.1:{port}"

    def get(self, path: str, **query: Any) -> str:
        """Return a page."""
        with urllib.request.urlopen(f"{self._root}{path}?{urllib.parse.urlencode(query)}", timeout=30) as answer:
            text: str = answer.read().decode()
            return text

    def json(self, path: str, **query: Any) -> Any:
        """Return a page that is JSON."""
        return json.loads(self.get(path, **query))

    def post(self, path: str, **form: Any) -> str:
        """Post a form; return the message of the answer."""
        body = urllib.parse.urlencode(form).encode()
        try:
            with urllib.request.urlopen(f"{self._root}{path}", body, timeout=60) as answer:
                message: str = json.loads(answer.read())["message"]
                return message
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path}: {error.code} {error.read().decode()}") from error

    def samples(self, name: str) -> dict[frozenset[tuple[str, str]], float]:
        """Return the samples of a metric by their labels."""
        found = {}
        for line in self.get("/metrics").splitlines():
            sample = _SAMPLE.match(line)
            if sample is not None and sample.group(1) == name:
                found[frozenset(_LABEL.findall(sample.group(2) or ""))] = float(sample.group(3))
        return found

    def sample(self, name: str, /, **labels: str) -> float:
        """Return the sum of the samples with these labels; 0 if there are none."""
        wanted = set(labels.items())
        return sum(value for found, value in self.samples(name).items() if wanted <= found)

    def answers(self) -> bool:
        """Whether the server answers."""
        try:
            self.get("/metrics")
        except OSError:
            return False
        return True


@contextlib.contextmanager
def _web(site: Site, *arguments: str, port: int) -> Iterator[Web]:
    env = {**site.env, "KIND": "celery", "FLOWER_UNAUTHENTICATED_API": "true"}
    with WorkerProcess(*arguments, directory=site.directory, env=env, command=(sys.executable,)) as process:
        web = Web(process, port)
        wait_until(f"{arguments[1]} answers", web.answers, 60)
        yield web


@contextlib.contextmanager
def flower(site: Site) -> Iterator[Web]:
    """Flower for the broker of a site, once it hears events."""
    port = free_port()
    address = (f"--port={port}", "--address=127.0.0.1", "--inspect_timeout=10000")
    with _web(site, "-m", "celery", "-A", "tests.integration.events.evented", "flower", *address, port=port) as web:
        _wait_bound(site)
        yield web


@contextlib.contextmanager
def exporter(site: Site) -> Iterator[Web]:
    """celery-prometheus-exporter for the broker of a site, once it hears events."""
    port = free_port()
    before = _listening(site)
    arguments = ("-m", "celery_prometheus_exporter", "--broker", site.vhost, "--addr", f"127.0.0.1:{port}")
    with _web(site, *arguments, port=port) as web:
        wait_until("the exporter hears events", lambda: _listening(site) > before, 60)
        yield web


def _listening(site: Site) -> int:
    return sum(name.startswith("celeryev.") for name in site.rabbitmq.queues(site.vhost))


def _wait_bound(site: Site) -> None:
    wait_until("Flower hears events", lambda: _listening(site) >= 1, 60)
