"""A stand-in for the Akismet service: two HTTP endpoints, served in a thread of the test."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

KEY = "the tests' key"
SPAMMER = "akismet-guaranteed-spam"


@dataclass
class Akismet:
    """The stand-in's state: the requests it got, and how many more requests it will fail."""

    url: str = ""
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    #: So many requests are answered 503.
    failures: int = 0

    def answer(self, question: str, form: dict[str, str]) -> tuple[int, str]:
        self.asked.append((question, form))
        if self.failures:
            self.failures -= 1
            return 503, "not now"
        if question == "verify-key":
            return 200, "valid" if form.get("key") == KEY else "invalid"
        return 200, str(form.get("comment_author") == SPAMMER).lower()


@contextmanager
def akismet() -> Iterator[Akismet]:
    """Serve until the end of the block."""
    service = Akismet()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            status, text = service.answer(self.path.rsplit("/", 1)[-1], {name: form[name][-1] for name in form})
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        service.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield service
        server.shutdown()
        thread.join()
