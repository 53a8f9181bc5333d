"""Workers that are wrong in one way are found out, each by the rule that it breaks; those that are not pass."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from tests.support.queue import scenarios
from tests.support.queue.checks import Rule, check
from tests.support.queue.history import History
from tests.support.queue.rig import Rig, open_rig
from tests.support.redis import RedisServer

Scenario = Callable[..., Awaitable[History]]


async def _starve(rig: Rig, *options: str) -> History:
    history, _ = await scenarios.starve(rig, *options)
    return history


CASES: list[tuple[str, Scenario, Rule]] = [
    ("claims_what_runs", scenarios.say_twice, Rule.OVERLAPPED),
    ("settles_by_id", _starve, Rule.COMPLETED_WITHOUT_A_RUN),
    ("drops_failures", scenarios.fail_once, Rule.LOST),
    ("never_sweeps", scenarios.die_with_entries, Rule.LOST),
    ("never_buries", scenarios.die_with_claims, Rule.LOST),
    ("buries_the_living", scenarios.work_side_by_side, Rule.OVERLAPPED),
    ("never_looks_at_the_clock", scenarios.come_back, Rule.STARTED_STALE),
    ("verifies_nothing", scenarios.act_blindly, Rule.STALE_EFFECT),
    ("charges_nothing", scenarios.poison, Rule.TRIED_TOO_OFTEN),
]


@pytest.mark.proof
@pytest.mark.parametrize(("mutant", "scenario", "rule"), CASES, ids=[case[0] for case in CASES])
async def test_a_worker_that_is_wrong_is_found_out(
    postgres_url: str, redis_server: RedisServer, mutant: str, scenario: Scenario, rule: Rule
) -> None:
    """Matrix 6.3: M1, M10, M11, M12, M20 and more."""
    async with open_rig(postgres_url, redis_server, ttl=scenarios.TTL) as rig:
        verdict = check(await scenario(rig, "--mutant", mutant))

    print(verdict.report())
    assert rule in verdict.broken


@pytest.mark.proof
@pytest.mark.parametrize("scenario", [case[1] for case in CASES], ids=[case[0] for case in CASES])
async def test_a_worker_that_is_right_passes_the_same(
    postgres_url: str, redis_server: RedisServer, scenario: Scenario
) -> None:
    """The control of the test above."""
    async with open_rig(postgres_url, redis_server, ttl=scenarios.TTL) as rig:
        rig.judge(await scenario(rig))


@pytest.mark.proof
@pytest.mark.parametrize("is_mutant", [True, False])
async def test_a_worker_that_makes_the_group_at_its_start_only_is_found_out(
    postgres_url: str, redis_server: RedisServer, is_mutant: bool
) -> None:
    """Matrix 6.3: M14, with its control."""
    options = ("--mutant", "makes_the_group_at_the_start_only") if is_mutant else ()
    async with open_rig(postgres_url, redis_server, ttl=scenarios.TTL) as rig:
        came_back = await scenarios.lose_the_group(rig, *options)

    assert came_back is not is_mutant
