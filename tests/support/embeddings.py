"""A stand-in for an endpoint like OpenAI's: texts with words in common have vectors that are near to each other."""

from __future__ import annotations

import hashlib
import json
import math
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DIMENSIONS = 64
SYNONYMS = {"automobile": "car", "automobiles": "car", "cars": "car", "physician": "doctor"}
"""Words that mean the same to it, though they have no letter in common."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What a request is answered instead of vectors."""

    status: int
    content: object = None
    headers: Mapping[str, str] = field(default_factory=dict)


class EmbeddingEndpoint:
    """A running stand-in; what it does wrong, each test says."""

    def __init__(self) -> None:
        self.dimensions = DIMENSIONS
        self.key: str | None = None
        """The key that it demands."""
        self.requests: list[list[str]] = []
        """The texts of each request, those that were answered with an error too."""
        self.headers: list[dict[str, str]] = []
        self.answered: list[str] = []
        """All texts that were answered with vectors."""
        self.faults: list[Answer] = []
        """What the next requests are answered, one each."""
        self.refuse: Callable[[Sequence[str]], Answer | None] = lambda texts: None
        self.change: Callable[[list[Row]], list[Row]] = lambda rows: rows
        self.opened = threading.Event()
        """Requests are held while it is not set."""
        self.opened.set()
        self.arrived = threading.Event()
        """Set with each request."""
        self._server = _serve(self)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def answer(self, headers: dict[str, str], body: Row) -> Answer:
        """Answer one request."""
        texts: list[str] = body["input"]
        self.requests.append(texts)
        self.headers.append(headers)
        self.arrived.set()
        self.opened.wait(30)
        if self.key is not None and headers.get("authorization") != f"Bearer {self.key}":
            return Answer(401, {"error": {"message": "Incorrect API key provided"}})
        if self.faults:
            return self.faults.pop(0)
        if refusal := self.refuse(texts):
            return refusal
        self.answered += texts
        rows = [
            {"object": "embedding", "index": at, "embedding": vector_of(text, self.dimensions)}
            for at, text in enumerate(texts)
        ]
        content = {"object": "list", "model": body["model"], "data": self.change(rows)}
        return Answer(200, content)

    def close(self) -> None:
        self.opened.set()
        self._server.shutdown()
        self._server.server_close()


def vector_of(text: str, dimensions: int = DIMENSIONS) -> list[float]:
    """Return the vector of *text*: the sum of those of its words, each of which points anywhere."""
    total = [1e-6] * dimensions
    for word in re.findall(r"\w+", text.casefold()):
        digest = hashlib.shake_256(SYNONYMS.get(word, word).encode()).digest(dimensions)
        total = [have + (byte - 127.5) / 73.6 for have, byte in zip(total, digest, strict=True)]
    length = math.hypot(*total)
    return [value / length for value in total]


def _serve(endpoint: EmbeddingEndpoint) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            raw = self.rfile.read(length)
            if len(raw) < length:
                # Whoever asked was cancelled.
                self.close_connection = True
                return
            if self.path != "/v1/embeddings":
                answer = Answer(404, {"error": "no such address"})
            else:
                headers = {name.lower(): value for name, value in self.headers.items()}
                answer = endpoint.answer(headers, json.loads(raw))
            content = answer.content
            if not isinstance(content, bytes):
                content = json.dumps(content).encode()
            try:
                self.send_response(answer.status)
                self.send_header("Content-Length", str(len(content)))
                for header in answer.headers.items():
                    self.send_header(*header)
                self.end_headers()
                self.wfile.write(content)
            except OSError:
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, request: object, client_address: object) -> None:
            """Clients that are cancelled reset their connections."""
            if not isinstance(sys.exception(), OSError):
                super().handle_error(request, client_address)  # type: ignore[arg-type]

    return Server(("127.0.0.1", 0), Handler)


@contextmanager
def running_endpoint() -> Iterator[EmbeddingEndpoint]:
    """Give an endpoint that answers until the block ends."""
    endpoint = EmbeddingEndpoint()
    thread = threading.Thread(target=endpoint._server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield endpoint
    finally:
        endpoint.close()
        thread.join()
