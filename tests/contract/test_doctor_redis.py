"""What `sercha doctor` says about Redis, and what the page about Redis grants to a user."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import trio

from lockd import MemoryStore, Renewal, hold
from lockd.redis import RedisStore, open_redis_store
from sercha.cli.checks import Finding, Verdict
from sercha.cli.checks_net import check_redis
from sercha.settings import Role, load_settings
from tests.support.postgres import free_port
from tests.support.redis import RedisServer
from tests.support.sercha import command, environment, run

Factory = Callable[..., RedisServer]
PASSWORD = "secret%2Fpart"
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "use-your-own-redis.md"


async def found(url: str | None, role: Role = Role.WORKER) -> dict[str, Finding]:
    env = {"MASTER_KEY": "a1" * 32, "HOME": "/nowhere"}
    if role is not Role.UP:
        env["DATABASE_URL"] = "postgresql://nobody@127.0.0.1:1/none"
    if url is not None:
        env["REDIS_URL"] = url
    return {each.name: each for each in await check_redis(load_settings(env, role=role))}


def verdicts(findings: dict[str, Finding]) -> dict[str, Verdict]:
    return {name: finding.verdict for name, finding in findings.items()}


async def test_a_server_that_is_as_it_should_be_is_ok(redis_server: RedisServer) -> None:
    findings = await found(redis_server.url)

    assert verdicts(findings) == {"redis": Verdict.OK}
    assert "Valkey 9" in findings["redis"].message


async def test_without_an_address_nothing_is_asked() -> None:
    assert (await found(None))["redis"].message == "none: PostgreSQL does it all"
    assert "private" in (await found(None, Role.UP))["redis"].message


async def test_a_server_that_forgets_is_warned_of(redis_factory: Factory) -> None:
    server = redis_factory(appendonly="no", maxmemory="64mb", maxmemory_policy="allkeys-lru")

    findings = await found(server.url)

    assert verdicts(findings) == {
        "redis": Verdict.OK,
        "redis memory": Verdict.WARN,
        "redis disk": Verdict.WARN,
    }
    assert "allkeys-lru" in findings["redis memory"].message
    assert all(each.mend for name, each in findings.items() if name != "redis")


async def test_a_user_who_may_not_ask_for_settings_is_told_that_it_is_there(
    redis_factory: Factory,
) -> None:
    server = redis_factory()
    server.execute("ACL", "SETUSER", "few", "on", ">word", "~sercha:*", "-@all", "+@connection")

    findings = await found(f"redis://few:word@127.0.0.1:{server.port}/0")

    assert verdicts(findings) == {"redis": Verdict.OK}
    assert "may not ask more" in findings["redis"].message


async def test_a_server_that_is_away_or_refuses_us_fails_without_its_password(
    redis_factory: Factory,
) -> None:
    server = redis_factory(requirepass="right")
    for port in (free_port(), server.port):
        findings = await found(f"redis://:{PASSWORD}@127.0.0.1:{port}/0")

        assert verdicts(findings) == {"redis": Verdict.FAIL}
        shown = f"{findings['redis'].message} {findings['redis'].mend}"
        assert "REDIS_URL" in shown
        assert PASSWORD not in shown
        assert "secret/part" not in shown


async def test_the_rights_that_the_page_grants_are_enough_for_the_lease_and_the_doctor(
    redis_factory: Factory,
) -> None:
    [line] = [each for each in PAGE.read_text("utf-8").splitlines() if "ACL SETUSER" in each]
    server = redis_factory()
    server.execute(*line.split())
    url = f"redis://sercha:secret@127.0.0.1:{server.port}/0"

    async def follow(store: RedisStore, has_begun: trio.Event) -> None:
        has_begun.set()
        async with hold(store, "scheduler", ttl=60):
            pass

    with trio.fail_after(20):
        async with (
            open_redis_store(url, fence=MemoryStore(), prefix="sercha:lock:") as store,
            trio.open_nursery() as nursery,
        ):
            has_begun = trio.Event()
            async with hold(store, "scheduler", ttl=60) as lease:
                nursery.start_soon(follow, store, has_begun)
                await has_begun.wait()
                assert await store.renew("scheduler", lease.holder, 60) is Renewal.RENEWED
    assert "Valkey" in (await found(url))["redis"].message
    assert server.execute("ACL", "LOG") == []


async def test_a_replica_fails(redis_factory: Factory) -> None:
    master = redis_factory()
    replica = redis_factory(replicaof=f"127.0.0.1 {master.port}")

    findings = await found(replica.url)

    assert verdicts(findings) == {"redis": Verdict.FAIL}
    assert "replica" in findings["redis"].message


def test_the_command_asks_redis_too(
    redis_factory: Factory, tmp_path: Path, postgres_url: str
) -> None:
    env = environment(
        tmp_path,
        DATABASE_URL=postgres_url,
        MASTER_KEY="a1" * 32,
        REDIS_URL=f"redis://:{PASSWORD}@127.0.0.1:{free_port()}/0",
    )

    done = run(command("doctor", "--role", "worker", "--json"), env)

    assert done.returncode == 1
    findings = {each["name"]: each for each in json.loads(done.stdout)}
    assert findings["redis"]["verdict"] == "fail"
    assert PASSWORD not in done.stdout + done.stderr
