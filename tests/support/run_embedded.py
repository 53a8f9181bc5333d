"""Run the embedded PostgreSQL in a process of its own until stdin ends; prints its pid and address.

python -m tests.support.run_embedded DATA_DIR SHELTER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import trio

from sercha.adapters.embedded_postgres import embedded_postgres
from sercha.adapters.embedded_servers import data_folder


async def main(path: Path, shelter: Path) -> None:
    with data_folder(path) as folder:
        print(json.dumps({"folder": str(folder.path)}), flush=True)
        async with embedded_postgres(folder, shelter=shelter) as server:
            answer = {
                "pid": server.pid,
                "conninfo": server.conninfo,
                "data_dir": str(server.data_dir),
            }
            print(json.dumps(answer), flush=True)
            await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]), Path(sys.argv[2]))
