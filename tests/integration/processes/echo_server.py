"""A gRPC server that echoes every call; prints its address and serves until its standard input ends.

It has a process of its own: gRPC's library starts threads and hooks into every later fork of the process it is in.
"""

from __future__ import annotations

import sys
from concurrent import futures
from typing import Any

import grpc


class Echo(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio has no types
    """Returns the request of every call."""

    def service(self, _details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(lambda request, _context: request)


if __name__ == "__main__":
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((Echo(),))
    sys.stdout.write(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}\n")
    server.start()
    sys.stdout.flush()
    sys.stdin.read()
    server.stop(None).wait()
