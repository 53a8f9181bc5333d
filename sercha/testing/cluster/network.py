"""The network between the members of a cluster, and what can go wrong with it."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Protocol

import trio

from sercha.testing.cluster.member import Host, Member
from sercha.testing.cluster.servers import POSTGRES_PORT, REDIS_PORT
from sercha.testing.proxy import FaultProxy, open_proxy

SERVER_PORTS = {"postgres": POSTGRES_PORT, "redis": REDIS_PORT}
COMMAND_TIME = 20.0
NETNS_FILES = Path("/etc/netns")


class Network(Protocol):
    """Faults hold until `heal`, and add up."""

    async def add_host(self, name: str) -> Host:
        """Make a host."""
        ...

    async def reach(self, client: str, server: str) -> tuple[str, int]:
        """Return the name or address, and the port, under which *client* gets to PostgreSQL or Redis."""
        ...

    async def move(self, member: Member) -> None:
        """Give a member that does not run another address."""
        ...

    async def cut_one_way(self, source: str, target: str) -> None:
        """Let nothing that *source* sends arrive at *target*."""
        ...

    async def cut(self, one: str, other: str) -> None:
        """Let nothing pass between the two."""
        ...

    async def lose(self, member: str, share: float) -> None:
        """Lose this share of what arrives at a member."""
        ...

    async def heal(self) -> None:
        """End all faults."""
        ...


class LoopbackNetwork:
    """All on this machine's loopback, each member under an address of its own (Linux takes all of 127.0.0.0/8).

    Faults are those of a proxy between a Sercha process and PostgreSQL or Redis; nginx and the APIs meet directly.
    """

    def __init__(self, stack: AsyncExitStack, seed: int) -> None:
        self._stack = stack
        self._seed = seed
        # Clusters that run at the same time do not meet.
        self._prefix = f"127.{os.getpid() % 250 + 2}.{secrets.randbelow(250) + 2}"
        self._next = 10
        self._hosts: dict[str, Host] = {}
        self._proxies: dict[tuple[str, str], FaultProxy] = {}

    async def add_host(self, name: str) -> Host:
        self._next += 1
        host = self._hosts[name] = Host(name, f"{self._prefix}.{self._next}")
        return host

    async def reach(self, client: str, server: str) -> tuple[str, int]:
        proxy = self._proxies.get((client, server))
        if proxy is None:
            proxy = await self._stack.enter_async_context(
                open_proxy(
                    self._hosts[server].address,
                    SERVER_PORTS[server],
                    seed=self._seed,
                    listen_host=self._hosts[client].address,
                )
            )
            self._proxies[client, server] = proxy
        return proxy.host, proxy.port

    async def move(self, member: Member) -> None:
        assert member.name not in SERVER_PORTS, "proxies lead to the servers' first addresses"
        member.host = await self.add_host(member.name)

    async def cut_one_way(self, source: str, target: str) -> None:
        if (source, target) in self._proxies:
            proxy = self._proxies[source, target]
            proxy.black_hole("up")
            proxy.ignore_new()
        else:
            self._proxy(target, source).black_hole("down")

    async def cut(self, one: str, other: str) -> None:
        proxy = self._proxy(*((one, other) if (one, other) in self._proxies else (other, one)))
        proxy.black_hole()
        proxy.ignore_new()

    async def lose(self, member: str, share: float) -> None:
        for (client, server), proxy in self._proxies.items():
            if member in (client, server):
                proxy.drop_randomly(share)

    async def heal(self) -> None:
        for proxy in self._proxies.values():
            proxy.heal()

    def _proxy(self, client: str, server: str) -> FaultProxy:
        proxy = self._proxies.get((client, server))
        if proxy is None:
            raise ValueError(f"{client} and {server}: no proxy is between them; use namespaces")
        return proxy


class NamespaceNetwork:
    """A network namespace for each member, joined by a bridge that has a namespace of its own. As root, on Linux.

    Nothing of it touches the machine's own network. Faults are the kernel's: packets dropped by iptables.
    """

    def __init__(self) -> None:
        self._id = secrets.token_hex(3)
        self._prefix = f"10.{secrets.randbelow(200) + 20}.{secrets.randbelow(250)}"
        self._switch = self._namespace("switch")
        self._hosts: dict[str, Host] = {}
        self._made: list[str] = []
        self._next = 10

    async def open(self) -> None:
        """Make the switch."""
        await self._add_namespace(self._switch)
        await self._in(self._switch, "ip", "link", "add", "bridge", "type", "bridge")
        await self._in(self._switch, "ip", "link", "set", "bridge", "up")

    async def close(self) -> None:
        """Remove every namespace, and with it its links."""
        for namespace in reversed(self._made):
            await _run("ip", "netns", "delete", namespace)
            for file in (NETNS_FILES / namespace).glob("*"):
                file.unlink()
            (NETNS_FILES / namespace).rmdir()

    async def add_host(self, name: str) -> Host:
        namespace = self._namespace(name)
        await self._add_namespace(namespace)
        number = len(self._made)
        here, there = f"s{self._id}{number}", "eth0"
        await self._in(
            self._switch, "ip", "link", "add", here, "type", "veth", "peer", "name", there, "netns", namespace
        )  # fmt: skip
        await self._in(self._switch, "ip", "link", "set", here, "master", "bridge", "up")
        host = Host(name, self._new_address(), ("ip", "netns", "exec", namespace))
        await self._in(namespace, "ip", "address", "add", f"{host.address}/24", "dev", there)
        await self._in(namespace, "ip", "link", "set", there, "up")
        await self._in(namespace, "ip", "link", "set", "lo", "up")
        self._hosts[name] = host
        self._tell_names()
        return host

    async def reach(self, client: str, server: str) -> tuple[str, int]:
        return server, SERVER_PORTS[server]

    async def move(self, member: Member) -> None:
        namespace, address = self._namespace(member.name), self._new_address()
        await self._in(namespace, "ip", "address", "flush", "dev", "eth0")
        await self._in(namespace, "ip", "address", "add", f"{address}/24", "dev", "eth0")
        member.host = Host(member.name, address, member.host.prefix)
        self._hosts[member.name] = member.host
        self._tell_names()

    async def cut_one_way(self, source: str, target: str) -> None:
        await self._drop(target, "--source", self._hosts[source].address)

    async def cut(self, one: str, other: str) -> None:
        await self.cut_one_way(one, other)
        await self.cut_one_way(other, one)

    async def lose(self, member: str, share: float) -> None:
        await self._drop(
            member, "-m", "statistic", "--mode", "random", "--probability", f"{share:.4f}"
        )

    async def heal(self) -> None:
        for name in self._hosts:
            await self._in(self._namespace(name), "iptables", "-w", "-F", "INPUT")

    async def _drop(self, name: str, *condition: str) -> None:
        command = ("iptables", "-w", "-A", "INPUT", *condition, "-j", "DROP")
        await self._in(self._namespace(name), *command)

    def _namespace(self, name: str) -> str:
        return f"sercha-{os.getpid()}-{self._id}-{name}"

    def _new_address(self) -> str:
        self._next += 1
        return f"{self._prefix}.{self._next}"

    async def _add_namespace(self, namespace: str) -> None:
        folder = NETNS_FILES / namespace
        folder.mkdir(parents=True)
        (folder / "hosts").touch()
        self._made.append(namespace)
        await _run("ip", "netns", "add", namespace)

    def _tell_names(self) -> None:
        # Written in place: each process has this very file in the place of its /etc/hosts.
        lines = [
            "127.0.0.1 localhost",
            *(f"{each.address} {each.name}" for each in self._hosts.values()),
        ]
        for namespace in self._made:
            (NETNS_FILES / namespace / "hosts").write_text("\n".join([*lines, ""]))

    async def _in(self, namespace: str, *command: str) -> None:
        await _run("ip", "netns", "exec", namespace, *command)


async def _run(*command: str) -> None:
    with trio.fail_after(COMMAND_TIME):
        await trio.run_process(command, capture_stdout=True, capture_stderr=True)


@asynccontextmanager
async def open_network(*, namespaces: bool, seed: int) -> AsyncGenerator[Network]:
    """Make a network, and remove it at the end, also after errors and cancellation."""
    if not namespaces:
        async with AsyncExitStack() as stack:
            yield LoopbackNetwork(stack, seed)
        return
    await trio.to_thread.run_sync(_remove_leftovers)
    network = NamespaceNetwork()
    try:
        await network.open()
        yield network
    finally:
        with trio.CancelScope(shield=True):
            await network.close()


def _remove_leftovers() -> None:
    """Remove the namespaces of runs that were killed: their names say whose they are."""
    import subprocess

    if not NETNS_FILES.is_dir():
        return
    for folder in NETNS_FILES.glob("sercha-*-*"):
        owner = folder.name.split("-")[1]
        if Path(f"/proc/{owner}").exists():
            continue
        subprocess.run(["ip", "netns", "delete", folder.name], check=False, capture_output=True)  # noqa: S603, S607
        for file in folder.glob("*"):
            file.unlink()
        folder.rmdir()


def pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return each pair of names once."""
    return [(one, other) for index, one in enumerate(names) for other in names[index + 1 :]]
