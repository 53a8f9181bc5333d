"""How commands end: exit statuses, and errors as one line instead of a traceback."""

from __future__ import annotations

import gc
import os
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterator
from enum import IntEnum

import trio
import typer

from sercha.cli.show import safe_lines
from sercha.errors import SerchaError, SettingsError, WrongUsage

# typer brings its own click; its base class of errors is reached through the public one.
_ClickError = typer.BadParameter.__mro__[2]


class Status(IntEnum):
    """Exit statuses, as ``docs/reference/cli.md`` lists them."""

    DONE = 0
    FAILED = 1
    WRONG_USE = 2
    INTERRUPTED = 130
    BROKEN_PIPE = 141


def run_async(main: Callable[[], Awaitable[int | None]]) -> None:
    """Run *main* under Trio and end the command with the status it returns (None: done)."""
    gc.freeze()  # what was imported is never looked through for garbage
    gc.enable()
    status = trio.run(main)
    if status:
        raise typer.Exit(status)


def status_of(error: BaseException) -> int:
    """Tell the user what went wrong, on stderr, and return the exit status.

    Errors that nobody raised on purpose are bugs and keep their traceback.
    """
    if isinstance(error, SystemExit):
        if isinstance(error.__context__, BrokenPipeError):  # typer has seen it first
            return _leave_broken_pipe()
        return error.code if isinstance(error.code, int) else Status.FAILED
    leaves = list(_leaves(error))
    expected = [leaf for leaf in leaves if isinstance(leaf, SerchaError)]
    bugs = [leaf for leaf in leaves if not _is_expected(leaf)]
    if bugs:
        traceback.print_exception(error)
        say_error(f"unexpected {type(bugs[0]).__name__}: {bugs[0]}")
        return Status.FAILED
    if any(isinstance(leaf, KeyboardInterrupt) for leaf in leaves):
        return Status.INTERRUPTED
    if any(isinstance(leaf, BrokenPipeError) for leaf in leaves):
        return _leave_broken_pipe()
    if expected:
        for leaf in dict.fromkeys(leaf.message for leaf in expected):
            say_error(leaf)
        is_usage = any(isinstance(leaf, SettingsError | WrongUsage) for leaf in expected)
        return Status.WRONG_USE if is_usage else Status.FAILED
    return _status_of_plain(leaves[0])


def say_error(message: str) -> None:
    """Print an error for people, each line of it marked."""
    for line in safe_lines(message):
        print(f"sercha: error: {line}", file=sys.stderr)


def _status_of_plain(error: BaseException) -> int:
    if isinstance(error, _ClickError):
        return _status_of_click(error)
    if isinstance(error, typer.Abort):
        say_error("given up: no answer")
        return Status.FAILED
    say_error(str(error))
    return Status.FAILED


def _status_of_click(error: BaseException) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":
        print(getattr(error, "message", ""), file=sys.stderr)
        return Status.WRONG_USE
    context = getattr(error, "ctx", None)
    if context is not None:
        print(context.get_usage(), file=sys.stderr)
    say_error(str(getattr(error, "format_message", error.__str__)()))
    return Status.WRONG_USE


def _is_expected(error: BaseException) -> bool:
    return isinstance(
        error, SerchaError | KeyboardInterrupt | OSError | typer.Abort | typer.Exit | _ClickError
    )


def _leave_broken_pipe() -> int:
    # Whoever read us has enough; the interpreter must not complain when it flushes at its end.
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    return Status.BROKEN_PIPE


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for child in error.exceptions:  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
            yield from _leaves(child)  # pyright: ignore[reportUnknownArgumentType]
    else:
        yield error
