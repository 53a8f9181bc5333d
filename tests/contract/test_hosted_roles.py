"""Roles in the nursery of another program."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio

import sercha
from sercha.settings import Role


@pytest.mark.parametrize("run", [sercha.run_worker, sercha.run_api])
@pytest.mark.parametrize("is_there", [True, False])
async def test_a_role_that_is_drained_at_once_starts_nothing_and_ends(
    postgres_url: str, run: Callable[..., Awaitable[None]], is_there: bool
) -> None:
    """Whoever waits for the start goes on, whether PostgreSQL is there or not."""
    variables = {
        "DATABASE_URL": postgres_url if is_there else "postgresql://127.0.0.1:1/none",
        "JWT_SECRET": "s" * 16 + "t" * 32,
        "MASTER_KEY": "ab" * 32,
    }
    overrides = {"HOST": "127.0.0.1", "PORT": "0"}
    settings = sercha.load_settings(variables, role=Role.ALL, overrides=overrides)
    drain = trio.Event()
    drain.set()

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            assert await nursery.start(partial(run, settings, drain=drain)) is None
