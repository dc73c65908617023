"""Node names and the expansions of ``%``."""

from __future__ import annotations

import socket

import pytest
from celery.utils.nodenames import default_nodename, host_format

from turbo.cli.nodename import file_name, node_name


@pytest.mark.row("CL5")
@pytest.mark.parametrize(
    ("given", "name"),
    [
        (None, "celery@box.example.com"),
        ("w1@%h", "w1@box.example.com"),
        ("w1@%n", "w1@box"),
        ("w1@%d", "w1@example.com"),
        ("w1@elsewhere", "w1@elsewhere"),
        ("", "celery@box.example.com"),
        ("w1", "celery@w1"),
        ("w1.%h", "celery@w1.box.example.com"),
        ("%n", "celery@box"),
        ("w1@", "w1@box.example.com"),
        ("a@b@c", "a@b@c"),
        ("@here", "celery@here"),
        ("100%%@%x", "100%@%x"),
    ],
)
def test_node_name(given: str | None, name: str) -> None:
    assert node_name(given, "box.example.com") == name


@pytest.mark.row("CL7", "PL26")
@pytest.mark.parametrize(
    ("template", "path"),
    [
        ("/var/log/%n.log", "/var/log/w1.log"),
        ("%p-%h-%d", "w1@box.example.com-box.example.com-example.com"),
        ("%n%I.log", "w1%I.log"),
        ("%n.%i", "w1.%i"),
    ],
)
def test_file_name_leaves_the_index_for_the_child(template: str, path: str) -> None:
    assert file_name(template, "w1@box.example.com") == path


@pytest.mark.row("CL5")
@pytest.mark.parametrize(
    "given", [None, "", "w1", "w1.%h", "%n", "%d", "w1@", "@here", "a@b@c", "w1@%n", "%h@x", "%%a"]
)
def test_a_node_is_called_as_celery_calls_it(given: str | None) -> None:
    assert node_name(given, socket.gethostname()) == host_format(default_nodename(given))
