"""Where the program begins. The health check goes past everything that the other commands need."""

from __future__ import annotations

import gc
import os
import sys


def main() -> None:
    """Run the command line and exit with its status; see ``docs/reference/cli.md``."""
    if sys.argv[1:] == ["healthcheck"]:
        _check_health()
    # Nearly all that importing makes stays for good: looking for garbage in it took a sixth of the time to a start.
    # `run_async` ends this, before anything runs that may go on for long.
    gc.disable()
    from sercha.cli.main import main as run

    run()


def _check_health() -> None:
    """Exit with the health's status, or with that of an error, for whose words more is imported."""
    from sercha.cli.healthcheck import check
    from sercha.errors import SerchaError

    try:
        status = check(os.environ)
    except SerchaError as error:
        from sercha.cli.exits import status_of

        status = status_of(error)
    sys.exit(status)
