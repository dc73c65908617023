"""One long-lived Erlang node that evaluates expressions inside the private RabbitMQ node.

`rabbitmqctl` takes more than a second per call; a call through this shell takes a millisecond or two, so that every
test can have a new virtual host.
"""

from __future__ import annotations

import selectors
import subprocess
import threading
import time
from collections.abc import Mapping

from tests.harness.broker_lanes import Lane
from tests.harness.processes import HarnessError, end, spawn

_LOOP = r"""
Node = list_to_atom(os:getenv("TURBO_TEST_NODE")),
io:setopts([{encoding, unicode}]),
F = fun F() ->
  case io:get_line("") of
    Line when is_list(Line) ->
      Answer = try
        {ok, Tokens, _} = erl_scan:string(Line),
        {ok, Expressions} = erl_parse:parse_exprs(Tokens),
        case rpc:call(Node, erl_eval, exprs, [Expressions, []], 60000) of
          {value, Value, _} -> {ok, Value};
          Other -> {error, Other}
        end
      catch Class:Reason -> {error, {Class, Reason}} end,
      io:format("~0tp~n", [Answer]),
      F();
    _ -> halt(0)
  end
end,
F().
"""


class ErlangShell:
    """Evaluates Erlang expressions on `node`, with its lane's Erlang. Thread-safe; calls are serialized."""

    def __init__(self, node: str, env: Mapping[str, str], programs: Lane) -> None:
        self._lock = threading.Lock()
        self._pending = b""
        erl = programs.command(
            "erl", "-noshell", "-hidden", "-sname", f"ctl-{node}", "-kernel", "inet_dist_use_interface", "{127,0,0,1}",
            "+S", "1:1", "+sbwt", "none", "-eval", " ".join(_LOOP.split("\n")),
        )  # fmt: skip
        self._process = spawn(erl, env={**env, "TURBO_TEST_NODE": node}, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def evaluate(self, expression: str, timeout: float = 60) -> str:
        """Evaluate `expression`; return its printed value. Raises HarnessError when it fails."""
        line = " ".join(expression.split("\n")).strip().removesuffix(".") + ".\n"
        stdin = self._process.stdin
        assert stdin is not None
        with self._lock:
            stdin.write(line.encode())
            stdin.flush()
            answer = self._read_line(timeout)
        if not answer.startswith("{ok,"):
            raise HarnessError(f"{expression} -> {answer}")
        return answer[4:-1]

    def _read_line(self, timeout: float) -> str:
        stdout = self._process.stdout
        assert stdout is not None
        deadline = time.monotonic() + timeout
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            while b"\n" not in self._pending:
                if not selector.select(max(0, deadline - time.monotonic())):
                    raise HarnessError(f"the Erlang shell gave no answer within {timeout:g} s")
                chunk = stdout.read1(65536)  # type: ignore[attr-defined]
                if not chunk:
                    raise HarnessError("the Erlang shell ended")
                self._pending += chunk
        line, _, self._pending = self._pending.partition(b"\n")
        return line.decode()

    def close(self) -> None:
        """End the shell's process."""
        end(self._process, gently=None)
