"""The stand-in as a whole: the ports, and what they share."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

import trio

from tests.vespa.application import PortApplication
from tests.vespa.connections import Port
from tests.vespa.control import Control
from tests.vespa.deploy import ConfigServer
from tests.vespa.deploy_errors import DeployProblem
from tests.vespa.faults import Faults
from tests.vespa.model import Application
from tests.vespa.postings import keep_indexes
from tests.vespa.record import Requests
from tests.vespa.routing import combined, config_server, container
from tests.vespa.sessions import Session
from tests.vespa.state import Limits, State
from tests.vespa.store import Store


class Vespa:
    """A running stand-in."""

    def __init__(self, state: State, nursery: trio.Nursery, *, host: str) -> None:
        self._state = state
        self._nursery = nursery
        self._host = host
        self._config_server = ConfigServer(state)
        self._config: Port | None = None
        self._combined: Port | None = None
        self._containers: list[Port] = []

    @property
    def config_url(self) -> str:
        """The address of the config server."""
        assert self._config is not None
        return self._config.url

    @property
    def container_urls(self) -> list[str]:
        """The addresses of the containers, also of those that are stopped."""
        return [each.url for each in self._containers]

    @property
    def combined_url(self) -> str:
        """The address that serves both interfaces, as the official client wants it with ``--target <url>``."""
        assert self._combined is not None
        return self._combined.url

    @property
    def faults(self) -> Faults:
        """The faults that are switched on."""
        return self._state.faults

    @property
    def requests(self) -> Requests:
        """What was asked."""
        return self._state.requests

    @property
    def store(self) -> Store:
        """The documents."""
        return self._state.store

    @property
    def limits(self) -> Limits:
        """Sizes and costs."""
        return self._state.limits

    @property
    def application(self) -> Application | None:
        """The application that was activated last."""
        return self._state.deployed

    def deploy(self, files: Mapping[str, bytes]) -> int:
        """Deploy a package without HTTP, and give its generation.

        Raises:
            ValueError: it is refused.
        """
        sessions = self._config_server.sessions
        session = Session(sessions.new_id(), dict(files), sessions.generation)
        try:
            sessions.prepare(session)
            sessions.activate(session)
        except DeployProblem as problem:
            raise ValueError(problem.message) from problem
        return session.id

    async def stop_container(self, index: int) -> None:
        """Reset the container's connections, and refuse further ones."""
        await self._containers[index].close()

    async def start_container(self, index: int) -> None:
        """Serve again, on the same port."""
        await self._containers[index].open(self._nursery)

    async def stop_config(self) -> None:
        """Reset the config server's connections, and refuse further ones."""
        assert self._config is not None
        await self._config.close()

    async def start_config(self) -> None:
        """Serve again, on the same port."""
        assert self._config is not None
        await self._config.open(self._nursery)

    async def open(
        self, config_port: int, container_ports: list[int], combined_port: int, *, control: bool
    ) -> None:
        """Open all ports."""
        state = self._state
        switches = {"stop": self.stop_container, "start": self.start_container}
        control_of = Control(state, switches) if control else None
        answer = config_server(state, self._config_server)
        config = PortApplication(state, "config", None, answer, control_of)
        self._config = await self._opened(config, config_port)
        for index, port in enumerate(container_ports):
            application = PortApplication(
                state, f"container-{index}", index, container(state), control_of
            )
            self._containers.append(await self._opened(application, port))
        both = PortApplication(state, "combined", 0, combined(state, self._config_server))
        self._combined = await self._opened(both, combined_port)
        state.container_ports = [each.port for each in self._containers]

    async def _opened(self, application: PortApplication, number: int) -> Port:
        port = Port(application, self._host, number)
        await port.open(self._nursery)
        return port


@asynccontextmanager
async def open_vespa(
    containers: int = 1,
    *,
    host: str = "127.0.0.1",
    config_port: int = 0,
    container_ports: list[int] | None = None,
    combined_port: int = 0,
    control: bool = False,
    store: Store | None = None,
    limits: Limits | None = None,
) -> AsyncGenerator[Vespa]:
    """Serve on free ports, or on those given, until the block ends.

    Raises:
        ExceptionGroup: the stand-in itself has failed at a request.
    """
    state = State(store=store or Store(), limits=limits or Limits())
    async with trio.open_nursery() as nursery:
        vespa = Vespa(state, nursery, host=host)
        ports = container_ports or [0] * containers
        nursery.start_soon(keep_indexes, state.store, state.schemas)
        await vespa.open(config_port, ports, combined_port, control=control)
        yield vespa
        nursery.cancel_scope.cancel()
    if state.crashes:
        raise ExceptionGroup("the stand-in has failed", state.crashes)
