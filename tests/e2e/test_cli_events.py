"""`sercha events` prints what happens, over restarts of the connection, until interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import trio

from sercha.services.background import running
from tests.support.serving import serve


async def test_events_are_printed_a_line_each_until_interrupted(
    postgres_url: str, tmp_path: Path
) -> None:
    async with (
        serve(postgres_url, tmp_path) as served,
        running(served.services.events.run),
    ):
        await served.login()
        position = str(await served.services.events.start(None))
        async with served.pool.connection() as connection:
            await connection.execute(
                "SELECT record_event('source.added', NULL, jsonb_build_object('name', 'a'))"
            )
        token = served.client.headers["Authorization"].removeprefix("Bearer ")
        environ = {**os.environ, "SERCHA_URL": served.url, "SERCHA_TOKEN": token}
        command = [sys.executable, "-m", "sercha", "events", "--json", "--after", position]
        process = await trio.lowlevel.open_process(
            command, env={**environ, "HOME": str(tmp_path)}, stdout=subprocess.PIPE
        )
        try:
            assert process.stdout is not None
            line = b""
            with trio.fail_after(60):
                while not line.endswith(b"\n"):
                    line += await process.stdout.receive_some()
                process.send_signal(signal.SIGINT)
                status = await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
            if process.stdout is not None:
                await process.stdout.aclose()

    said = json.loads(line)
    assert (said["type"], said["data"]) == ("source.added", {"name": "a"})
    assert said["position"] != position
    assert status == 130
