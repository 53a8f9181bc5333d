"""The table of failures, with containers: killed, paused, cut off, restarted and replaced under load."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import pytest
import trio

from sercha.testing.cluster import Load
from tests.support.containers import SERVICES, Deployment, docker
from tests.support.failover import add_schedules, assert_slots_are_complete

pytestmark = pytest.mark.containers
REQUESTS = 40
"""How many requests go by between two disturbances, at least."""
PAUSE = 5.0
FREEZE_TRIES = 5
THINKING = 0.25
"""Seconds between a client's requests: without them the load alone fills the machine."""
APIS = [name for name in SERVICES if "api" in name]
WORKERS = [name for name in SERVICES if "worker" in name]
NETWORKS = {"sercha-api-1": "front", "sercha-worker-1": "data"}


@dataclass
class Disturbed:
    """A deployment under load, and what is done to it."""

    deployment: Deployment
    load: Load

    async def docker(self, *arguments: str) -> None:
        await trio.to_thread.run_sync(docker, *arguments)

    async def healthy(self, *services: str) -> None:
        await trio.to_thread.run_sync(self.deployment.wait_healthy, *services)

    async def requests(self, count: int = REQUESTS) -> None:
        await self.load.wait_sent(self.load.report.sent + count)

    def container(self, service: str) -> str:
        return self.deployment.container(service)


Disturbance = Callable[[Disturbed, str], Awaitable[None]]


async def kill(run: Disturbed, service: str) -> None:
    container = run.container(service)
    await run.docker("kill", container)
    await run.requests()
    await run.docker("start", container)


async def pause(run: Disturbed, service: str) -> None:
    container = run.container(service)
    await freeze(run, container)
    await trio.sleep(PAUSE)  # how long the pause is, not a wait for anything
    await run.docker("unpause", container)


async def freeze(run: Disturbed, container: str) -> None:
    """Pause a container, at the second try or so where the machine is busy.

    To freeze a cgroup (v1) in which processes begin just now is a game of chances, says runc, and leaves trying again
    to who asks: opencontainers/runc#2791 and #4388.
    """
    for left in reversed(range(FREEZE_TRIES)):
        try:
            await run.docker("pause", container)
        except AssertionError as error:
            if not left or "unable to freeze" not in str(error):
                raise
            print(f"pause once more, {left} tries left: {error}")
            await run.requests(5)
        else:
            return


async def disconnect(run: Disturbed, service: str) -> None:
    network = f"{run.deployment.project}_{NETWORKS[service]}"
    alias = "sercha-api" if service in APIS else "sercha-worker"
    container = run.container(service)
    await run.docker("network", "disconnect", network, container)
    await trio.sleep(PAUSE)  # how long it is cut off
    await run.docker("network", "connect", "--alias", alias, "--alias", service, network, container)


async def recreate(run: Disturbed, service: str) -> None:
    before = run.container(service)
    arguments = ("up", "-d", "--no-deps", "--force-recreate", service)
    await trio.to_thread.run_sync(run.deployment.compose, *arguments)
    assert run.container(service) != before


async def restart(run: Disturbed, service: str) -> None:
    await run.docker("restart", run.container(service))


async def disturb(deployment: Deployment, what: Sequence[tuple[Disturbance, str]]) -> Load:
    """Do one thing after another to a deployment under load; each is healed before the next."""
    load = Load(
        deployment,
        queries=("handbook", "zephyrous"),
        readers=4,
        writers=2,
        pause=THINKING,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(load.run)
        run = Disturbed(deployment, load)
        for how, service in what:
            await run.requests()
            before = sum(load.report.failed.values())
            await how(run, service)
            await run.healthy()
            await run.requests()
            failed = sum(load.report.failed.values()) - before
            print(f"{getattr(how, '__name__', how)} {service}: {failed} failed")
        load.stop()
    print(load.report.describe())
    print("\n".join(load.report.samples))
    return load


async def assert_nobody_noticed(load: Load) -> None:
    report = load.report
    assert not report.failed, report.describe()
    assert not report.cut, report.describe()
    assert await load.lost_and_doubled() == ([], [])
    assert report.written
    assert report.unknown == []


def everything(services: list[str]) -> list[tuple[Disturbance, str]]:
    """The rows of the table for services of one kind."""
    each: list[tuple[Disturbance, str]] = [(how, one) for how in (kill, pause) for one in services]
    return [*each, (disconnect, services[0]), (recreate, services[1])]


async def test_whatever_happens_to_an_api_no_request_fails(small: Deployment) -> None:
    await assert_nobody_noticed(await disturb(small, everything(APIS)))


async def test_whatever_happens_to_a_worker_every_slot_has_one_outcome(small: Deployment) -> None:
    await add_schedules(small, 2)
    await assert_nobody_noticed(await disturb(small, everything(WORKERS)))
    await assert_slots_are_complete(small, seconds=120)
    await small.query("DELETE FROM schedule WHERE name LIKE 'each-second-%'")


@pytest.mark.parametrize("service", ["redis", "postgres"])
async def test_a_restart_of_a_server_ends_by_itself(service: str, small: Deployment) -> None:
    load = await disturb(small, [(restart, service)])
    if service == "redis":
        await assert_nobody_noticed(load)
        return
    # Away for longer than is hidden: clear answers, nothing acknowledged is lost, nothing done twice.
    assert set(load.report.failed) <= {"503 database-unavailable", "503 no-api"}, (
        load.report.describe()
    )
    assert await load.lost_and_doubled() == ([], [])


@pytest.mark.thorough
async def test_the_tenth_of_it_with_vespa(reference: Deployment) -> None:
    what = [(kill, "sercha-api-1"), (recreate, "sercha-api-2"), (kill, "sercha-worker-1")]
    await assert_nobody_noticed(await disturb(reference, what))
