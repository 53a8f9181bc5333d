"""A stand-in for a Sercha that client commands talk to over HTTP; each test says what it answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, object] | tuple[int, object, dict[str, str]]


class Peer:
    """A server whose answers each test writes down: ``peer.on["GET /me"] = lambda peer, body: (200, {})``."""

    def __init__(self) -> None:
        self.on: dict[str, Callable[[str, Any], Answer]] = {}
        self.seen: list[tuple[str, str]] = []
        self.arrived = threading.Event()
        self.ending = threading.Event()
        peer = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length) or "null")
                name = f"{self.command} {self.path.partition('?')[0].removeprefix('/api/v1')}"
                token = self.headers.get("Authorization", "").removeprefix("Bearer ")
                peer.seen.append((name, token))
                peer.arrived.set()
                status, content, *rest = peer.on.get(name, _nothing)(token, body)
                raw = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(raw)))
                for header in rest[0].items() if rest else ():
                    self.send_header(*header)
                self.end_headers()
                self.wfile.write(raw)

            do_GET = do_POST = do_DELETE = answer

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


def _nothing(token: str, body: object) -> Answer:
    return 404, {"error": "there is nothing at this address", "code": "not-found"}


@contextmanager
def running_peer() -> Iterator[Peer]:
    """Give a peer that listens until the block ends."""
    peer = Peer()
    thread = threading.Thread(target=peer.server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield peer
    finally:
        peer.ending.set()
        peer.server.shutdown()
        thread.join()
        peer.server.server_close()
