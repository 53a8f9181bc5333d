"""Run the embedded Valkey in a process of its own until stdin ends; prints its pid and address.

python -m tests.support.run_embedded_redis DATA_DIR SHELTER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import trio

from sercha.adapters.embedded_redis import embedded_redis
from sercha.adapters.embedded_servers import data_folder


async def main(path: Path, shelter: Path) -> None:
    with data_folder(path) as folder:
        async with embedded_redis(folder, shelter=shelter) as server:
            assert server is not None
            print(json.dumps({"pid": server.pid, "url": server.url}), flush=True)
            await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]), Path(sys.argv[2]))
