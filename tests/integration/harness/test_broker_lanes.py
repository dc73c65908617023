"""Lanes of RabbitMQ: only whole ones are taken, failures say what to do, and a node has the version asked for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.harness import broker_lanes
from tests.harness.processes import HarnessError
from tests.harness.rabbitmq import RabbitMQ


def test_a_version_without_a_lane_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(HarnessError, match=r"no lane of RabbitMQ 2\.8; there are 3\.10, 4\.0, 4\.3"):
        broker_lanes.lane("2.8")


def test_the_machines_own_needs_no_lane(rabbitmq: RabbitMQ, pytestconfig: pytest.Config) -> None:
    own = broker_lanes.lane()
    assert own.root is None
    assert own.command("erl", Path("/bin/true")) == ["erl", "/bin/true"]
    if pytestconfig.option.rabbitmq is None:
        assert own.version.startswith("{}.{}.".format(*rabbitmq.version))


def test_the_node_is_of_the_version_asked_for_and_leaves_nothing_mounted(
    rabbitmq: RabbitMQ, pytestconfig: pytest.Config
) -> None:
    asked = pytestconfig.option.rabbitmq or "{}.{}".format(*rabbitmq.version)
    assert "{}.{}".format(*rabbitmq.version) == asked
    assert rabbitmq.lane.version.startswith(f"{asked}.")
    mounts = Path("/proc/self/mountinfo").read_text()
    assert rabbitmq.lane.root is None or str(rabbitmq.lane.root) not in mounts


def test_a_build_that_breaks_off_is_not_taken_for_a_lane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken, server = tmp_path / "debootstrap", "usr/lib/rabbitmq/lib/rabbitmq_server-4.3.0"
    broken.write_text(f'#!/bin/sh\nmkdir -p "$3/{server}"\necho no mirror >&2\nexit 1\n')
    broken.chmod(0o755)
    monkeypatch.setattr(broker_lanes, "require", lambda package: broken)
    monkeypatch.setenv(broker_lanes.FOLDER, str(tmp_path / "lanes"))
    root = tmp_path / "lanes" / "rabbitmq-4.3"
    (root / server).mkdir(parents=True)  # of an earlier, unfinished build
    says = rf"(?s)could not be built in .*rabbitmq-4\.3\.building.*{broker_lanes.MIRROR}.*no mirror"
    for _ in range(2):
        with pytest.raises(HarnessError, match=says if os.geteuid() == 0 else "needs root.*TURBO_TEST_LANES"):
            broker_lanes.lane("4.3")
        assert not broker_lanes._complete(root, "4.3")


def test_a_lane_that_older_steps_built_is_built_again(tmp_path: Path) -> None:
    (tmp_path / "usr/lib/rabbitmq/lib/rabbitmq_server-4.0.5").mkdir(parents=True)
    (tmp_path / ".complete").write_text(broker_lanes._mark("4.0"))
    assert broker_lanes._complete(tmp_path, "4.0")
    assert not broker_lanes._complete(tmp_path, "4.3")
    (tmp_path / ".complete").write_text("trixie 0\n")
    assert not broker_lanes._complete(tmp_path, "4.0")
