"""Reads the examples under docs/deploy as the programs that use them do: command, signal and timeout."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).resolve().parents[2] / "docs" / "deploy"
UNIT = DEPLOY / "turbo-worker.service"
DOCKERFILE = DEPLOY / "Dockerfile"
COMPOSE = DEPLOY / "compose.yaml"
KUBERNETES = DEPLOY / "kubernetes.yaml"


@dataclass(frozen=True, slots=True)
class Deployment:
    """The command that runs a worker, and how it is checked and stopped."""

    command: list[str]
    signal: str
    #: Seconds until it is killed.
    patience: float
    #: What asks whether it is well.
    probes: tuple[tuple[str, ...], ...] = ()
    first_process: bool = False

    @property
    def shutdown_timeout(self) -> float:
        return float(self.command[self.command.index("--shutdown-timeout") + 1])

    @property
    def queues(self) -> list[str]:
        return self.command[self.command.index("-Q") + 1].split(",")


def unit() -> dict[str, list[str]]:
    """Return the settings of a systemd unit, each with all its values."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        if line and line[0] not in "#[":
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def systemd() -> Deployment:
    """Return the deployment of the systemd unit."""
    settings = unit()
    (command,), (signal,), (patience,) = settings["ExecStart"], settings["KillSignal"], settings["TimeoutStopSec"]
    return Deployment(shlex.split(command), signal, float(patience))


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile, with continued lines joined."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split(None, 1)[0], line.split(None, 1)[1].strip()) for line in text.splitlines() if line.strip()]


def docker() -> Deployment:
    """Return the deployment by ``docker run``, and ``docker stop`` with the grace period of the compose file."""
    found = dict(instructions())
    probe = re.sub(r"^(--\S+\s+)*CMD\s+", "", found["HEALTHCHECK"])
    return Deployment(
        json.loads(found["ENTRYPOINT"]) + json.loads(found["CMD"]),
        found["STOPSIGNAL"],
        compose().patience,
        (("/bin/sh", "-c", probe),),
        first_process=True,
    )


def compose() -> Deployment:
    """Return the deployment by ``docker compose up`` of the service ``worker``."""
    service = services()["worker"]
    return Deployment(
        json.loads(dict(instructions())["ENTRYPOINT"]) + service["command"],
        service["stop_signal"],
        float(service["stop_grace_period"].removesuffix("s")),
        first_process=True,
    )


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


def manifest() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(KUBERNETES.read_text())
    return found


def kubernetes() -> Deployment:
    """Return the deployment by a kubelet that runs the pod."""
    pod = manifest()["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    return Deployment(
        container["command"] + container["args"],
        "SIGTERM",
        float(pod["terminationGracePeriodSeconds"]),
        tuple(tuple(container[probe]["exec"]["command"]) for probe in ("readinessProbe", "livenessProbe")),
        first_process=True,
    )


ALL = {"systemd": systemd, "docker": docker, "compose": compose, "kubernetes": kubernetes}
