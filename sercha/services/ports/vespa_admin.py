"""What an administrator asks of Vespa through Sercha."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class VespaHost:
    """A machine of the application."""

    alias: str
    hostname: str


@dataclass(frozen=True, slots=True)
class ContainerCluster:
    """Containers that do the same; hosts by their aliases."""

    id: str
    nodes: tuple[str, ...]
    port: int
    has_feed: bool
    has_query: bool


@dataclass(frozen=True, slots=True)
class ContentCluster:
    """Nodes that hold documents; hosts by their aliases."""

    id: str
    nodes: tuple[str, ...]
    documents: tuple[str, ...]
    """Names of document types."""
    redundancy: int


@dataclass(frozen=True, slots=True)
class VespaApplication:
    """The active application, as its files say."""

    containers: tuple[ContainerCluster, ...]
    contents: tuple[ContentCluster, ...]
    hosts: tuple[VespaHost, ...]
    schemas: tuple[str, ...]
    our_schema: str | None
    """Stands for the schema of Sercha's documents as it is deployed; None: they cannot be fed."""
    services_xml: str
    hosts_xml: str


class VespaAdmin(Protocol):
    """Vespa's application, where Sercha is told its config servers."""

    async def application(self) -> VespaApplication | None:
        """Return the active application; None: there is none yet.

        Raises:
            Rejected: its files cannot be read (``vespa-application``).
            Unavailable: no config server answers (``vespa-away``).
        """
        ...

    async def prepare(self) -> None:
        """Deploy what Sercha's documents need, if it is not there yet, and wait until all services have it.

        Raises:
            Rejected: Vespa refuses it (``vespa-application``).
            Unavailable: Vespa does not answer, or does not follow in time (``vespa-away``).
        """
        ...
