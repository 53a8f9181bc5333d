"""Opens a cluster: hosts, servers, the schema, Sercha's processes, and nginx in front of them."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psycopg
import trio

from sercha.testing.cluster.balancer import (
    API_PORT,
    PORT,
    NginxPlace,
    find_nginx,
    make_nginx,
)
from sercha.testing.cluster.balancer import (
    make_place as make_nginx_place,
)
from sercha.testing.cluster.member import POLL, READY_TIME, Host, Member, MemberEnded
from sercha.testing.cluster.network import Network, open_network
from sercha.testing.cluster.plan import REPOSITORY, ClusterPlan
from sercha.testing.cluster.servers import (
    Place,
    Postgres,
    Redis,
    make_place,
    make_postgres,
    make_redis,
)

EMAIL, PASSWORD = "admin@example.org", secrets.token_urlsafe(12)
MIGRATE_TIME = 60.0
REQUEST_TIME = 60.0
DNS_PORT = 5353
WORKER_PORT = 9100


@dataclass
class Cluster:
    """Made by `open_cluster`."""

    plan: ClusterPlan
    folder: Path
    network: Network
    postgres: Postgres
    redis: Redis | None
    apis: list[Member] = field(default_factory=list[Member])
    workers: list[Member] = field(default_factory=list[Member])
    nginx: Member = field(init=False)
    nginx_place: NginxPlace = field(init=False)
    names: Path = field(init=False)
    """What the name server answers from."""
    token: str = ""
    """Of the administrator, once `set_up` was called."""

    @property
    def members(self) -> list[Member]:
        """All processes but the name server."""
        servers = [self.postgres.member, *([self.redis.member] if self.redis else [])]
        return [*servers, *self.apis, *self.workers, self.nginx]

    @property
    def url(self) -> str:
        """Where users ask: nginx. With namespaces only hosts of the cluster get there."""
        return f"http://{self.nginx.address}:{PORT}"

    def client(self, *, connections: int = 20) -> httpx.AsyncClient:
        """Return a client of nginx, with the administrator's token once there is one."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        # There is no TLS, so no certificates are read: each client of a load would do so for itself.
        socket = str(self.nginx_place.socket)
        transport = httpx.AsyncHTTPTransport(uds=socket, limits=limits, verify=False)
        return httpx.AsyncClient(
            transport=transport, base_url="http://nginx", headers=headers, timeout=REQUEST_TIME
        )

    async def query(self, statement: str, *parameters: object) -> list[tuple[object, ...]]:
        """Ask PostgreSQL over its socket, past the network of the cluster."""

        def ask() -> list[tuple[object, ...]]:
            with psycopg.connect(self.postgres.local_url, autocommit=True) as connection:
                cursor = connection.execute(statement.encode(), parameters or None)
                return cursor.fetchall() if cursor.description else []

        return await trio.to_thread.run_sync(ask)

    async def set_up(self) -> None:
        """Make the administrator and log in: `client` and `Load` have the token then."""
        async with self.client() as client:
            account = {"name": "Ann", "email": EMAIL, "password": PASSWORD}
            (await client.post("/api/v1/setup", json=account)).raise_for_status()
            answer = await client.post(
                "/api/v1/auth/login", json={"email": EMAIL, "password": PASSWORD}
            )
            self.token = answer.raise_for_status().json()["token"]

    async def move(self, member: Member) -> None:
        """Stop a member, and start it under another address."""
        if member.pid is not None:
            await member.stop()
        await self.network.move(member)
        self.tell_names()
        await member.start()

    def tell_names(self) -> None:
        """Write where the APIs are."""
        lines = [f"{api.address} sercha-{api.name}" for api in self.apis]
        draft = self.names.with_suffix(".draft")
        draft.write_text("\n".join([*lines, ""]))
        draft.replace(self.names)


@asynccontextmanager
async def open_cluster(plan: ClusterPlan | None = None) -> AsyncGenerator[Cluster]:
    """Start a cluster for the block, ready to be set up; at its end everything is ended and removed.

    A member that ends without being asked to ends the block. The block's own errors leave as they are, in no group.

    Raises:
        MemberEnded: a member ended by itself; the message has its last words.
        trio.TooSlowError: a member was not usable in time.
    """
    plan = plan or ClusterPlan()
    place = make_place()
    ended: list[str] = []
    failure: Exception | None = None
    try:
        async with open_network(namespaces=plan.namespaces, seed=plan.seed) as network:
            # Before the nursery: with it go proxies that have nurseries of their own.
            cluster = await _make(plan, place, network)
            dns = await _make_dns(cluster, place)
            async with trio.open_nursery() as nursery:

                def report(member: Member, status: int) -> None:
                    ended.append(f"{member.name} ended with status {status}:\n{member.tail()}")
                    nursery.cancel_scope.cancel("a member ended by itself")

                for member in (dns, *cluster.members):
                    member.attach(nursery)
                    member.on_unasked_end = report
                try:
                    await _start(cluster, dns)
                    yield cluster
                except Exception as error:  # noqa: BLE001  raised again below, outside of the nursery
                    failure = error
                finally:
                    await _stop([*reversed(cluster.members), dns])
    except ExceptionGroup as error:  # what the block raised while it was cancelled
        failure = error
    finally:
        shutil.rmtree(place.folder, ignore_errors=True)
    if ended:
        raise MemberEnded("\n".join(ended)) from failure
    if failure is not None:
        raise failure


async def _make(plan: ClusterPlan, place: Place, network: Network) -> Cluster:
    postgres = await make_postgres(place, await network.add_host("postgres"))
    redis = await make_redis(place, await network.add_host("redis")) if plan.redis else None
    cluster = Cluster(plan, place.folder, network, postgres, redis)
    shared = {
        "JWT_SECRET": secrets.token_hex(32),
        "MASTER_KEY": secrets.token_hex(32),
        "LOCALFS_ALLOWED_ROOTS": os.pathsep.join(str(folder) for folder in plan.folders),
        "LOG_LEVEL": "info",
        **plan.settings,
    }
    for number in range(1, plan.apis + 1):
        cluster.apis.append(await _make_sercha(cluster, "api", number, API_PORT, shared))
    for number in range(1, plan.workers + 1):
        cluster.workers.append(await _make_sercha(cluster, "worker", number, WORKER_PORT, shared))
    return cluster


async def _make_sercha(
    cluster: Cluster, role: str, number: int, port: int, shared: Mapping[str, str]
) -> Member:
    name = f"{role}-{number}"
    host = await cluster.network.add_host(name)
    home = cluster.folder / name
    home.mkdir()
    variables = {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "PYTHONPATH": str(REPOSITORY),
        "PYTHONUNBUFFERED": "1",
        "HOME": str(home),
        "DATA_DIR": str(home / "data"),
        "PORT": str(port),
        **shared,
        "DATABASE_URL": cluster.postgres.url(*await cluster.network.reach(name, "postgres")),
    }
    if cluster.redis is not None:
        variables["REDIS_URL"] = cluster.redis.url(*await cluster.network.reach(name, "redis"))
    return Member(
        name=name,
        host=host,
        command=lambda _: [sys.executable, "-m", "sercha", role],
        log_file=cluster.folder / f"{name}.log",
        environment=lambda at: {**variables, "HOST": at.address},
        is_usable=_says_ready,
    )


async def _says_ready(member: Member) -> bool:
    return member.has_said("^ready: ")


async def _make_dns(cluster: Cluster, place: Place) -> Member:
    """Make the name server and nginx, which live on one host: nothing between them fails."""
    host = await cluster.network.add_host("nginx")
    cluster.names = place.folder / "names"
    cluster.tell_names()
    cluster.nginx_place = make_nginx_place(
        cluster.plan.nginx_folder,
        place.folder / "nginx",
        listen=[f"{host.address}:{PORT}"],
        resolver=f"{host.address}:{DNS_PORT}",
        upstreams=[f"sercha-{api.name}:{API_PORT}" for api in cluster.apis],
    )
    program = cluster.plan.nginx_program or find_nginx()
    cluster.nginx = make_nginx(program, cluster.nginx_place, host, place.folder / "nginx.log")
    arguments = [host.address, str(DNS_PORT), str(cluster.names)]
    return Member(
        name="dns",
        host=Host("dns", host.address, host.prefix),
        command=lambda _: [sys.executable, "-m", "sercha.testing.cluster.dns", *arguments],
        log_file=place.folder / "dns.log",
        environment=lambda _: {"PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"},
        is_usable=_says_ready,
    )


async def _start(cluster: Cluster, dns: Member) -> None:
    await dns.start()
    await cluster.postgres.member.start()
    if cluster.redis is not None:
        await cluster.redis.member.start()
    await _migrate(cluster)
    async with trio.open_nursery() as nursery:
        for member in (*cluster.apis, *cluster.workers):
            nursery.start_soon(member.start)
    await cluster.nginx.start()
    await _wait_reached(cluster)


async def _wait_reached(cluster: Cluster) -> None:
    """Wait until nginx knows where an API is: it asks for addresses when it starts, not before."""
    with trio.fail_after(READY_TIME):
        async with cluster.client() as client:
            while (await client.get("/health")).status_code != 200:  # noqa: ASYNC110  another process
                await trio.sleep(POLL)


async def _migrate(cluster: Cluster) -> None:
    environment = {
        **cluster.apis[0].environment(cluster.apis[0].host),
        "DATABASE_URL": cluster.postgres.local_url,
    }
    with trio.fail_after(MIGRATE_TIME):
        await trio.run_process(
            [sys.executable, "-m", "sercha", "migrate"],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_stdout=True,
            capture_stderr=True,
        )


async def _stop(members: list[Member]) -> None:
    """Kill what still runs: whoever wants to see an orderly stop asks for it within the block."""
    with trio.CancelScope(shield=True):
        for member in members:
            member.expect_end()
            if member.pid is not None:
                await member.kill()
