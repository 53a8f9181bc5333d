"""The command ``lockd``: run a command under a lease, look at a lease, take it away from its holder."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version

import trio

from lockd._address import SCHEMES, open_store
from lockd._clock import SystemClock
from lockd._command import parse_seconds, run_command
from lockd._errors import StoreUnreachable
from lockd._observe import EventKind, LeaseEvent
from lockd._requests import ask
from lockd._store import Inspection, LeaseStore

ANSWER_SECONDS = 10.0
"""How long the store may take to answer `inspect` and `release`."""

_QUIET = (EventKind.WAITING, EventKind.RENEWED)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; 0 done, 1 failed, 2 wrong use. `run` has the command's status, 75 or 69."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if not options.store.startswith(SCHEMES):
        parser.error(f"--store: give an address that begins with {', '.join(SCHEMES)}")
    logging.basicConfig(format="lockd: %(message)s", level=logging.INFO)
    action: Callable[[argparse.Namespace], Awaitable[int]] = options.action
    try:
        return trio.run(action, options)
    except StoreUnreachable as error:
        return _fail(f"the store did not answer: {error}")
    except ImportError as error:
        return _fail(f"{options.store.partition(':')[0]}: the driver is missing ({error.name})")


def _fail(text: str) -> int:
    sys.stderr.write(f"lockd: error: {text}\n")
    return 1


async def _run(options: argparse.Namespace) -> int:
    async with open_store(options.store) as store:
        return await run_command(
            store,
            options.name,
            options.command,
            ttl=options.ttl,
            on_busy="raise" if options.no_wait else "wait",
            grace=options.grace,
            observe=_log_event,
        )


async def _inspect(options: argparse.Namespace) -> int:
    async with open_store(options.store) as store:
        found = await _answer(store, options.name)
    if options.json:
        sys.stdout.write(json.dumps(asdict(found), default=str) + "\n")
    elif found.holder is None:
        sys.stdout.write(f"{found.name}: free, last token {found.token}\n")
    else:
        left = "" if found.remaining is None else f", {found.remaining:.1f} s left unless renewed"
        sys.stdout.write(f"{found.name}: held by {found.holder}, token {found.token}{left}\n")
    return 0


async def _answer(store: LeaseStore, name: str) -> Inspection:
    return await ask(SystemClock(), ANSWER_SECONDS, lambda: store.inspect(name))


async def _release(options: argparse.Namespace) -> int:
    async with open_store(options.store) as store:
        was_held = await ask(SystemClock(), ANSWER_SECONDS, lambda: store.evict(options.name))
    sys.stdout.write(f"{options.name}: {'taken from its holder' if was_held else 'was free'}\n")
    return 0


def _log_event(event: LeaseEvent) -> None:
    if event.kind not in _QUIET:
        details = {"token": event.token, "reason": event.reason, "error": event.error}
        said = " ".join(f"{key}={value}" for key, value in details.items() if value is not None)
        logging.getLogger("lockd").info("%s %s %s", event.kind, event.name, said)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lockd", description=__doc__)
    parser.add_argument("--version", action="version", version=f"lockd {_version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    text = "run a command while holding a lease"
    run = _leased(commands.add_parser("run", help=text, description=text), _run)
    run.add_argument(
        "--ttl", type=_ttl, default=60.0, metavar="SECONDS", help="at least 1; default 60"
    )
    run.add_argument(
        "--grace",
        type=_seconds,
        default=30.0,
        metavar="SECONDS",
        help="between a signal that is passed on and SIGKILL; default 30",
    )
    run.add_argument("--no-wait", action="store_true", help="exit 75 when somebody else holds it")
    run.add_argument("command", nargs="+", metavar="-- COMMAND", help="and its arguments")
    text = "say who holds a lease"
    inspect = _leased(commands.add_parser("inspect", help=text, description=text), _inspect)
    inspect.add_argument("--json", action="store_true", help="print JSON")
    text = "take a lease from its holder"
    release = _leased(commands.add_parser("release", help=text, description=text), _release)
    release.add_argument(
        "--force",
        action="store_true",
        required=True,
        help="required: the holder loses it, and what he writes under the fence is refused",
    )
    return parser


def _leased(
    parser: argparse.ArgumentParser, action: Callable[[argparse.Namespace], Awaitable[int]]
) -> argparse.ArgumentParser:
    parser.set_defaults(action=action)
    parser.add_argument("name", metavar="NAME", help="of the lease")
    parser.add_argument("--store", required=True, metavar="URL", help="redis, rediss, postgresql")
    return parser


def _seconds(text: str) -> float:
    try:
        return parse_seconds(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds") from None


def _ttl(text: str) -> float:
    seconds = _seconds(text)
    if seconds < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: the shortest is 1 second")
    return seconds


def _version() -> str:
    for distribution in ("lockd", "sercha"):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return "unknown"


if __name__ == "__main__":
    sys.exit(main())
