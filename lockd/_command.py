"""`lockd run`: a command that runs only while a lease is held.

The command gets a session of its own, led by `lockd._child`, so that all it starts can be ended with it. When
the lease is lost it gets SIGTERM, and a margin later, before the lease can be somebody else's, SIGKILL. On Linux
the leader ends it all when lockd itself dies. What it leaves running when it ends is killed too: nothing acts
after the release.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import trio

from lockd._errors import LeaseLost, LeaseTaken, StoreUnreachable
from lockd._hold import OnBusy, hold
from lockd._lease import Lease
from lockd._observe import Observer
from lockd._store import LeaseStore

LOST_STATUS = 75
"""Exit status when the lease was lost, or (without waiting) not to be had: EX_TEMPFAIL."""
UNREACHABLE_STATUS = 69
"""Exit status when the store did not answer before the command could be started: EX_UNAVAILABLE."""
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


async def run_command(
    store: LeaseStore,
    name: str,
    command: Sequence[str],
    *,
    ttl: float,
    on_busy: OnBusy,
    grace: float,
    observe: Observer,
) -> int:
    """Wait for the lease, run *command* under it, free it; returns the exit status.

    A signal of `STOPPING` while it waits ends the waiting; while the command runs it is passed on, and the
    command is killed when it has not ended *grace* seconds later, or at a second signal. To be called in the
    main thread.
    """
    child = _Child(command)
    waiting = trio.CancelScope()
    status = LOST_STATUS
    with trio.open_signal_receiver(*STOPPING) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_pass_on, signals, child, waiting, grace)
            with waiting:
                try:
                    async with hold(
                        store, name, ttl=ttl, on_busy=on_busy, on_overrun="exit", observe=observe
                    ) as lease:
                        status = await child.run(lease)
                except (LeaseLost, LeaseTaken) as error:
                    _complain(str(error))
                except StoreUnreachable as error:
                    _complain(f"the store did not answer: {error}")
                    status = UNREACHABLE_STATUS
            nursery.cancel_scope.cancel()
    if waiting.cancelled_caught:
        return 128 + (child.stopped_by or signal.SIGTERM)
    return status


def _complain(text: str) -> None:
    sys.stderr.write(f"lockd: error: {text}\n")


async def _pass_on(
    signals: AsyncIterator[int], child: _Child, waiting: trio.CancelScope, grace: float
) -> None:
    async with trio.open_nursery() as nursery:
        async for number in signals:
            if child.stopped_by is not None:
                child.kill()
                continue
            child.stopped_by = number
            if child.is_running:
                child.send(number)
                nursery.start_soon(child.kill_after, grace)
            else:
                waiting.cancel(reason=f"stopped by signal {number}")


class _Child:
    """The command's process, from before its start to its end."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self.is_running = False
        self.stopped_by: int | None = None
        """The first signal that told lockd to stop."""

    async def run(self, lease: Lease) -> int:
        """Run the command to its end; cancelled, end it: SIGTERM, then SIGKILL a margin later.

        Returns its status, with 128 added to the number of the signal that ended it.
        """
        await trio.lowlevel.checkpoint()
        lease.check()
        self._process = self._start(lease)
        self.is_running = True
        try:
            await self._wait()
        except trio.Cancelled:
            self.send(signal.SIGTERM)
            # A little less than the margin: at its end the watchdog would end lockd itself.
            with trio.move_on_after(0.8 * lease.terms.margin, shield=True):
                await self._wait()
            raise
        finally:
            self.is_running = False
            self.kill()
            status = self._process.wait()
        return status if status >= 0 else 128 - status

    def send(self, number: int) -> None:
        """Send a signal to the command and all that it has started."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def kill(self) -> None:
        """End the command and all that it has started, at once."""
        self.send(signal.SIGKILL)

    async def kill_after(self, seconds: float) -> None:
        """Give it *seconds* to end by itself."""
        await trio.sleep(seconds)
        self.kill()

    def _start(self, lease: Lease) -> subprocess.Popen[bytes]:
        # Not in one of Trio's threads: the kernel kills the child when the *thread* that made it ends.
        script = Path(__file__).with_name("_child.py")
        environment = {
            **os.environ,
            "LOCKD_NAME": lease.name,
            "LOCKD_HOLDER": str(lease.holder),
            "LOCKD_TOKEN": str(lease.token),
        }
        return subprocess.Popen(  # noqa: S603 - what the user asked for
            [sys.executable, "-IS", str(script), str(os.getpid()), *self._command],
            env=environment,
            start_new_session=True,
        )

    async def _wait(self) -> None:
        """Return when the process has ended; it is not reaped, so that its number stays its own."""
        assert self._process is not None
        if hasattr(os, "waitid"):
            ended = partial(os.waitid, os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        else:
            ended = self._process.wait
        await trio.to_thread.run_sync(ended, abandon_on_cancel=True)


def parse_seconds(text: str) -> float:
    """Read a duration in seconds, with or without ``s``.

    Raises:
        ValueError: it is none.
    """
    seconds = float(text.removesuffix("s"))
    if not 0 <= seconds < math.inf:
        raise ValueError(text)
    return seconds
