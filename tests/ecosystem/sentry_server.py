"""An HTTP server that a Sentry DSN points to; keeps the events that sentry-sdk sends."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import brotli

Item = dict[str, Any]

#: By Content-Encoding. sentry-sdk takes brotli where it is installed.
_DECODERS = {"identity": bytes, "gzip": gzip.decompress, "br": brotli.decompress}


class SentryServer:
    """Use as a context manager. ``dsn`` is for the app; ``takes`` is the delay of each response in seconds."""

    def __init__(self, takes: float = 0) -> None:
        self._more = threading.Condition()
        self._items: list[tuple[str, Item]] = []
        keep = self._keep

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                keep(_DECODERS[self.headers.get("Content-Encoding", "identity")](raw))
                time.sleep(takes)
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="sentry", daemon=True)

    @property
    def dsn(self) -> str:
        return f"http://key@127.0.0.1:{self._server.server_address[1]}/1"

    def __enter__(self) -> SentryServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def items(self, kind: str) -> list[Item]:
        """Return all received items of a kind ("event", "transaction", "check_in")."""
        with self._more:
            return [item for found, item in self._items if found == kind]

    def wait(self, kind: str, matches: Callable[[Item], bool], timeout: float = 60) -> Item:
        """Wait for the first matching item of this kind. Raises AssertionError with the received ones."""
        with self._more:
            self._more.wait_for(lambda: any(k == kind and matches(item) for k, item in self._items), timeout)
            for found, item in self._items:
                if found == kind and matches(item):
                    return item
            raise AssertionError(f"no such {kind} within {timeout:g} s; there came {self._items!r}"[:6000])

    def _keep(self, envelope: bytes) -> None:
        """An envelope is a line of JSON, then for each item a line of JSON about it and its payload."""
        _head, _, rest = envelope.partition(b"\n")
        found = []
        while rest.strip():
            line, _, rest = rest.partition(b"\n")
            about = json.loads(line)
            size = about.get("length", len(rest))
            payload, rest = rest[:size], rest[size:].removeprefix(b"\n")
            if about["type"] in ("event", "transaction", "check_in"):
                found.append((about["type"], json.loads(payload)))
        with self._more:
            self._items.extend(found)
            self._more.notify_all()
