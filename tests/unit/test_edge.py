"""What the log and the counters say of a request, whenever its client goes away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import structlog
import trio

from sercha.roles.api.context import ApiOptions
from sercha.roles.api.edge import Edge
from sercha.roles.api.traffic import Traffic

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
CONTENT = {"type": "http.response.body", "body": b"ok", "more_body": True}
LAST = {"type": "http.response.body", "body": b"", "more_body": False}
SCOPE: dict[str, Any] = {
    "type": "http",
    "http_version": "1.1",
    "method": "GET",
    "path": "/api/v1/me",
    "headers": [],
    "client": ("127.0.0.1", 1),
}


@pytest.mark.parametrize(
    ("messages", "status"),
    [([], 499), ([START], 499), ([START, CONTENT], 200), ([START, CONTENT, LAST], 200)],
    ids=["nothing", "head", "content", "all"],
)
async def test_request_counts_as_answered_once_its_content_has_left(
    messages: Sequence[dict[str, Any]], status: int
) -> None:
    """The framework ends an application whose client closes, which one that has all it asked for may do."""
    gone, sent = trio.Event(), trio.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "http.request"
        with trio.CancelScope() as closed:
            async with trio.open_nursery() as nursery:

                async def watch() -> None:
                    assert (await receive())["type"] == "http.disconnect"
                    closed.cancel()

                nursery.start_soon(watch)
                for message in messages:
                    await send(message)
                sent.set()
                await trio.sleep_forever()

    asked = iter(["http.request"])

    async def receive() -> dict[str, Any]:
        if (kind := next(asked, None)) is None:
            await gone.wait()
            kind = "http.disconnect"
        return {"type": kind, "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        await trio.lowlevel.checkpoint()

    edge = Edge(application, Traffic(), ApiOptions())
    with structlog.testing.capture_logs() as logs, trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(edge, SCOPE, receive, send)
            await sent.wait()
            gone.set()

    [line] = [log for log in logs if log["event"] == "request.finished"]
    assert line["status"] == status
