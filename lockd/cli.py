"""The command ``lockd``: look at a store that leases can be kept in."""

from __future__ import annotations

import argparse
import json
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import trio

CONNECT_TIMEOUT = 10.0

_INSPECT = """
SELECT current_setting('server_version'), NOT pg_is_in_recovery(),
       extract(epoch FROM clock_timestamp()),
       CASE WHEN pg_is_in_recovery() THEN NULL
            ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 done, 1 failed, 2 wrong use."""
    options = _parser().parse_args(arguments)
    if not options.store.startswith(("postgresql://", "postgres://")):
        sys.stderr.write("lockd: error: --store: give a postgresql:// address\n")
        return 2
    try:
        report = trio.run(_check, options.store)
    except Exception as error:  # noqa: BLE001 - the edge of the command: one line instead of a traceback
        sys.stderr.write(f"lockd: error: {str(error).splitlines()[0]}\n")
        return 1
    if options.json:
        sys.stdout.write(json.dumps(report) + "\n")
    else:
        sys.stdout.writelines(f"{name}: {value}\n" for name, value in report.items())
    return 0 if report["primary"] else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lockd", description=__doc__)
    parser.add_argument("--version", action="version", version=f"lockd {_version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    check = commands.add_parser(
        "check", help="say whether a store can hold leases: a writable primary, and its clock"
    )
    check.add_argument("--store", required=True, metavar="URL", help="postgresql://...")
    check.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _version() -> str:
    try:
        return version("sercha")
    except PackageNotFoundError:
        return "unknown"


async def _check(store: str) -> dict[str, Any]:
    from lockd.postgres import TrioConnection  # the driver is an extra

    with trio.fail_after(CONNECT_TIMEOUT):
        connection = await TrioConnection[tuple[Any, ...]].connect(store, autocommit=True)
        try:
            row = await (await connection.execute(_INSPECT)).fetchone()
        finally:
            await connection.close()
    assert row is not None
    return {
        "server_version": row[0],
        "primary": row[1],
        "clock_epoch_seconds": float(row[2]),
        "timeline": row[3],
    }
