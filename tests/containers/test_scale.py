"""More and fewer APIs and workers under load, by Compose alone."""

from __future__ import annotations

import pytest
import trio

from sercha.testing.cluster import Load
from tests.support.containers import Deployment

pytestmark = [pytest.mark.containers, pytest.mark.thorough]


@pytest.fixture
def scaled(small: Deployment) -> Deployment:
    """Change the running deployment to ``compose.scale.yaml``; nothing else of the session uses it after this."""
    small.files = ("compose.small.yaml", "compose.scale.yaml")
    small.settings = {**small.settings, "BASE": "compose.small.yaml"}
    small.up()
    return small


async def test_scaling_up_and_down_fails_no_request(scaled: Deployment) -> None:
    load = Load(scaled, queries=("handbook", "zephyrous"), readers=4, writers=2, pause=0.1)
    async with trio.open_nursery() as nursery:
        await nursery.start(load.run)
        for apis, workers in ((4, 3), (1, 1), (3, 2)):
            counts = ("--scale", f"sercha-api={apis}", "--scale", f"sercha-worker={workers}")
            await trio.to_thread.run_sync(lambda counts=counts: scaled.up("--no-recreate", *counts))
            await load.wait_sent(load.report.sent + 100)
            states = scaled.states("sercha-api")
            assert len(states) == apis, states
        load.stop()
    print(load.report.describe())
    print("\n".join(load.report.samples))
    assert not load.report.failed, load.report.describe()
    assert not load.report.cut, load.report.describe()
    assert await load.lost_and_doubled() == ([], [])
