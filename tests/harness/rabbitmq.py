"""A private RabbitMQ node for the test run, with its own name, ports, epmd, cookie and data directory.

Queues are inspected and the node is changed through one long-lived Erlang shell, because rabbitmqctl is a thousand
times slower and takes a minute on a busy machine. Everything is on 127.0.0.1. The node and its files are removed when
the run ends.
"""

from __future__ import annotations

import itertools
import os
import re
import secrets
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.harness.broker_lanes import Lane, lane
from tests.harness.erlang_shell import ErlangShell
from tests.harness.processes import PATIENCE, HarnessError, accepts, end, free_port, spawn, wait_until

if TYPE_CHECKING:
    from subprocess import Popen

_CONFIG = """\
listeners.tcp.1 = 127.0.0.1:{port}
loopback_users = none
disk_free_limit.absolute = 50MB
log.file.level = warning
max_message_size = {limit}
"""
#: The largest message in bytes. The default of RabbitMQ 4 is 16 MiB, that of 3.10 is this value.
_LARGEST = 128 * 2**20


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """The state of a queue at one moment."""

    ready: int
    unacked: int
    consumers: int
    durable: bool
    auto_delete: bool
    exclusive: bool
    arguments: str  # as Erlang prints it


class RabbitMQ:
    """The node. `url` is the default virtual host; `new_vhost()` creates an empty one.

    `programs` selects the RabbitMQ (default: the installed one). Nodes of several versions can run at the same time.
    """

    def __init__(
        self, directory: Path, programs: Lane | None = None, config: str = "", plugins: tuple[str, ...] = ()
    ) -> None:
        """``config`` holds further lines of rabbitmq.conf; ``plugins`` are enabled."""
        self._config = config
        self._plugins = plugins
        self.lane = programs or lane()
        #: Major and minor version; set when the node has started.
        self.version = (0, 0)
        self.directory = directory
        self.port = free_port()
        self.url = self.vhost_url("/")
        self._node = f"turbo-{os.getpid()}-{secrets.token_hex(3)}@localhost"
        self._epmd_port = free_port()
        self._dist_port = free_port()
        self._server: Popen[bytes] | None = None
        self._epmd: Popen[bytes] | None = None
        self._shell: ErlangShell | None = None
        self._names = itertools.count(1)

    # -- life -----------------------------------------------------------------------------------------

    def start(self, timeout: float = PATIENCE) -> None:
        """Start the node, or restart it with the same data and port; return when it has booted."""
        if self._epmd is None:
            self._prepare()
        self._server = spawn(self._command("rabbitmq-server"), env=self._environment(), cwd=self.directory)
        server = self._server

        def serving() -> bool:
            if server.poll() is not None:
                raise HarnessError(f"RabbitMQ ended while starting ({server.returncode}):\n{self.log_tail()}")
            return accepts(self.port)

        wait_until("RabbitMQ listens", serving, timeout, every=0.05)
        self._shell = ErlangShell(self._node, self._environment(), self.lane)
        wait_until("RabbitMQ has booted", lambda: self._booted(), timeout)
        self.evaluate("application:set_env(rabbit, quorum_tick_interval, 500)")
        major, minor = self.evaluate("element(2, application:get_key(rabbit, vsn))").strip('"').split(".")[:2]
        self.version = (int(major), int(minor))

    def stop(self) -> None:
        """Stop the node cleanly; its data is kept for the next `start`."""
        self._close_shell()
        if self._server is not None:
            end(self._server, gently=signal.SIGTERM, patience=30)
            self._server = None

    def kill(self) -> None:
        """Kill the node and all its processes (SIGKILL)."""
        self._close_shell()
        if self._server is not None:
            end(self._server, gently=None)
            self._server = None

    def pause(self) -> None:
        """Stop the node's process (SIGSTOP): sockets stay open, and nothing is answered."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Continue the node's process (SIGCONT) after `pause`."""
        self._running().send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Kill the node and its epmd, and delete its files."""
        self.kill()
        if self._epmd is not None:
            end(self._epmd, gently=None)
            self._epmd = None
        shutil.rmtree(self.directory, ignore_errors=True)

    def ensure_running(self) -> None:
        """Start or continue the node if a failed test left it stopped, paused or killed."""
        if self._server is None or self._server.poll() is not None:
            self._close_shell()
            self.start()
            return
        self.resume()
        if not self._booted():
            self.start_app()

    def stop_app(self) -> None:
        """Stop the broker inside the running Erlang node, as `rabbitmqctl stop_app` does."""
        self.evaluate("rabbit:stop()")

    def start_app(self) -> None:
        """Start the broker again after `stop_app`; return when it accepts connections."""
        self.evaluate("rabbit:start()")
        wait_until("RabbitMQ listens", lambda: accepts(self.port), PATIENCE)

    def log_tail(self, size: int = 3000) -> str:
        """Return the end of the node's logs."""
        return "\n".join(log.read_text(errors="replace")[-size:] for log in self._logs())

    def log(self) -> str:
        """Return the node's log."""
        return (self.directory / "log" / f"{self._node}.log").read_text(errors="replace")

    def _logs(self) -> list[Path]:
        return sorted((self.directory / "log").glob("*.log"))

    # -- inspecting and changing ----------------------------------------------------------------------

    def evaluate(self, expression: str) -> str:
        """Evaluate an Erlang expression in the node, within milliseconds; return its printed value."""
        if self._shell is None:
            raise HarnessError("RabbitMQ is not running")
        return self._shell.evaluate(expression)

    def close_all_connections(self, vhost: str | None = None, reason: str = "closed by a test") -> int:
        """Make the broker close every connection (to one virtual host); return how many there were."""
        only = (
            ""
            if vhost is None
            else f", (catch rabbit_networking:connection_info(P, [vhost])) =:= [{{vhost, {_binary(vhost)}}}]"
        )
        return int(
            self.evaluate(
                f"length([rabbit_networking:close_connection(P, {_binary(reason)}) "
                f"|| P <- rabbit_networking:connections(){only}])"
            )
        )

    def connections(self, vhost: str | None = None) -> int:
        """Return the number of open AMQP connections (to one virtual host)."""
        only = (
            ""
            if vhost is None
            else f", (catch rabbit_networking:connection_info(P, [vhost])) =:= [{{vhost, {_binary(vhost)}}}]"
        )
        return int(self.evaluate(f"length([P || P <- rabbit_networking:connections(){only}])"))

    def new_vhost(self, queue_type: str = "") -> str:
        """Create an empty virtual host; return its URL. ``queue_type`` is the default type of its queues."""
        name = f"t{next(self._names)}"
        metadata = f"#{{default_queue_type => {_binary(queue_type)}}}" if queue_type else "#{}"
        self.evaluate(
            f'rabbit_vhost:add({_binary(name)}, {metadata}, <<"tests">>), rabbit_auth_backend_internal:set_permissions('
            f'<<"guest">>, {_binary(name)}, <<".*">>, <<".*">>, <<".*">>, <<"tests">>)'
        )
        return self.vhost_url(name)

    def delete_vhost(self, url: str) -> None:
        """Delete the virtual host of `url` with its contents; its connections are closed."""
        self.evaluate(f'rabbit_vhost:delete({_binary(vhost_of(url))}, <<"tests">>)')

    def vhost_url(self, name: str) -> str:
        """Return the URL of a virtual host on this node."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/{name}"

    def queues(self, vhost: str) -> dict[str, QueueFacts]:
        """Return the state of every queue of a virtual host (a name or a URL)."""
        names = self.evaluate(
            f"[element(4, amqqueue:get_name(Q)) || Q <- rabbit_amqqueue:list({_binary(vhost_of(vhost))})]"
        )
        listed = [re.sub(r"\\(.)", r"\1", name) for name in re.findall(r'<<"((?:[^"\\]|\\.)*)"', names)]
        facts = {name: self.queue(name, vhost) for name in listed}
        return {name: one for name, one in facts.items() if one is not None}

    def queue(self, name: str, vhost: str = "/") -> QueueFacts | None:
        """Return the state of a queue, or None if it does not exist. `vhost` is a name or a URL."""
        resource = f"rabbit_misc:r({_binary(vhost_of(vhost))}, queue, {_binary(name)})"
        # The query functions of a quorum queue's leader; their form depends on the version.
        counts = (
            ["{rabbit_fifo, query_messages_ready, []}", "{rabbit_fifo, query_messages_checked_out, []}"]
            if self.version >= (4, 3)
            else ["fun rabbit_fifo:query_messages_ready/1", "fun rabbit_fifo:query_messages_checked_out/1"]
        )
        answer = self.evaluate(
            f"try case rabbit_amqqueue:lookup({resource}) of "
            "{ok, Q} -> case [V || {_, V} <- rabbit_amqqueue:info(Q, [messages_ready, messages_unacknowledged, "
            "consumers, durable, auto_delete, exclusive, arguments])] of "
            "[R, U | Rest] -> case amqqueue:get_type(Q) of "
            # `info` of a quorum queue is as old as its last tick, so ask the leader.
            "rabbit_quorum_queue -> [begin {ok, {_, N}, _} = ra:leader_query(amqqueue:get_pid(Q), F), N end "
            f"|| F <- [{', '.join(counts)}]] ++ Rest; _ -> [R, U | Rest] end end; _ -> none end "
            "catch exit:_ -> none end"  # it was deleted between the two calls
        )
        if answer == "none":
            return None
        found = re.fullmatch(r"\[(\d+),(\d+),(\d+),(\w+),(\w+),(\w+|''),(.*)\]", answer)
        if found is None:
            raise HarnessError(f"cannot read the facts of queue {name}: {answer}")
        ready, unacked, consumers, durable, auto_delete, exclusive, arguments = found.groups()
        return QueueFacts(int(ready), int(unacked), int(consumers), durable == "true", auto_delete == "true",
                          exclusive == "true", arguments)  # fmt: skip

    def wait_queue(
        self, name: str, vhost: str, *, ready: int | None = None, unacked: int | None = None,
        consumers: int | None = None, timeout: float = PATIENCE,
    ) -> QueueFacts:  # fmt: skip
        """Wait until the queue has the given counts. Raises HarnessError with the last state if it does not."""
        last: list[QueueFacts | None] = [None]

        def reached() -> bool:
            facts = last[0] = self.queue(name, vhost)
            return facts is not None and all(
                wanted is None or wanted == have
                for wanted, have in (
                    (ready, facts.ready),
                    (unacked, facts.unacked),
                    (consumers, facts.consumers),
                )
            )

        try:
            wait_until(f"queue {name} with {ready=} {unacked=} {consumers=}", reached, timeout)
        except HarnessError as error:
            raise HarnessError(f"{error}; last seen: {last[0]}") from None
        assert last[0] is not None
        return last[0]

    # -- inside ---------------------------------------------------------------------------------------

    def _command(self, program: str) -> list[str]:
        return self.lane.command(self.lane.programs / program)

    def _prepare(self) -> None:
        home = self.directory / "home"
        home.mkdir(parents=True, exist_ok=True)
        cookie = home / ".erlang.cookie"
        cookie.write_text(secrets.token_hex(16))
        cookie.chmod(0o400)
        (self.directory / "enabled_plugins").write_text(f"[{','.join(self._plugins)}].\n")
        config = _CONFIG.format(port=self.port, limit=_LARGEST) + self._config
        (self.directory / "rabbitmq.conf").write_text(config)
        (self.directory / "env.conf").write_text("")
        epmd = self.lane.command("epmd", "-address", "127.0.0.1", "-port", str(self._epmd_port))
        self._epmd = spawn(epmd, env=self._environment())
        wait_until("epmd listens", lambda: accepts(self._epmd_port), PATIENCE)

    def _environment(self) -> dict[str, str]:
        here = str(self.directory)
        return {
            "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG": "C.UTF-8",
            "HOME": f"{here}/home",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_CRASH_DUMP": "/dev/null",
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_MNESIA_BASE": f"{here}/data",
            "RABBITMQ_LOG_BASE": f"{here}/log",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{here}/enabled_plugins",
            "RABBITMQ_CONFIG_FILE": f"{here}/rabbitmq",
            "RABBITMQ_CONF_ENV_FILE": f"{here}/env.conf",
            "RABBITMQ_PID_FILE": f"{here}/pid",
            # The script then execs the Erlang VM instead of starting a child: one process to signal.
            "RABBITMQ_ALLOW_INPUT": "1",
            # No busy waiting: the machine is shared with the tested processes.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-noinput +S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none "
            "-kernel inet_dist_use_interface {127,0,0,1}",
        }

    def _booted(self) -> bool:
        try:
            return self.evaluate("rabbit:is_running()") == "true"
        except HarnessError:
            return False

    def _running(self) -> Popen[bytes]:
        if self._server is None:
            raise HarnessError("RabbitMQ is not running")
        return self._server

    def _close_shell(self) -> None:
        if self._shell is not None:
            self._shell.close()
            self._shell = None


def vhost_of(url_or_name: str) -> str:
    """Return the virtual host's name in an AMQP URL; a plain name is returned unchanged."""
    if "://" not in url_or_name:
        return url_or_name
    return url_or_name.split("://", 1)[1].partition("/")[2] or "/"


def _binary(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'<<"{escaped}"/utf8>>'
