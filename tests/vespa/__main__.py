"""Runs the stand-in as a program: ``python -m tests.vespa --port 19071 --container-port 8080``."""

from __future__ import annotations

import argparse
import signal

import trio

from tests.vespa.server import open_vespa
from tests.vespa.state import Limits
from tests.vespa.store import BUCKETS, Store


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.vespa", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at")
    parser.add_argument("--port", type=int, default=19071, help="port of the config server")
    parser.add_argument(
        "--container-port", type=int, action="append", help="port of a container; may be repeated"
    )
    parser.add_argument(
        "--combined-port",
        type=int,
        default=0,
        help="port that serves both interfaces; 0: a free one",
    )
    parser.add_argument("--buckets", type=int, default=BUCKETS, help="buckets of the documents")
    parser.add_argument(
        "--control", action="store_true", help="serve the switches below /stand-in/"
    )
    return parser.parse_args()


async def main() -> None:
    """Serve until SIGINT or SIGTERM."""
    given = _arguments()
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with open_vespa(
            host=given.host,
            config_port=given.port,
            container_ports=given.container_port or [8080],
            combined_port=given.combined_port,
            control=given.control,
            store=Store(buckets=given.buckets),
            limits=Limits(),
        ) as vespa:
            urls = [vespa.config_url, *vespa.container_urls, vespa.combined_url]
            print("ready", *urls, flush=True)
            async for _ in signals:
                break


if __name__ == "__main__":
    trio.run(main)
