"""What the API answers about Vespa, in the shapes and names of the Go program; see `sercha.roles.api.shapes`."""

from __future__ import annotations

from sercha.roles.api.shapes import Shape


class VespaHost(Shape):
    """A machine."""

    alias: str
    hostname: str


class VespaContainerCluster(Shape):
    """Containers that do the same."""

    id: str
    nodes: list[str]
    """Aliases of hosts."""
    port: int
    has_feed: bool
    has_query: bool


class VespaContentCluster(Shape):
    """Nodes that hold documents."""

    id: str
    nodes: list[str]
    """Aliases of hosts."""
    documents: list[str]
    """Names of document types."""
    redundancy: int


class VespaClusterInfo(Shape):
    """The active application, as its files say."""

    container_clusters: list[VespaContainerCluster]
    content_clusters: list[VespaContentCluster]
    hosts: list[VespaHost]
    schemas: list[str]
    our_schema_deployed: bool
    services_xml: str
    hosts_xml: str


class VespaStatus(Shape):
    """How Vespa is doing."""

    connected: bool
    """Whether it answers searches with Sercha's documents."""
    healthy: bool
    endpoint: str
    """Its addresses, with commas between them; empty where it is not the engine."""
    dev_mode: bool
    """Never: an application that is there already is kept, and only added to."""
    schema_mode: str
    """``hybrid``, ``bm25``, or empty without Vespa."""
    embeddings_enabled: bool
    embedding_dim: int | None = None
    embedding_provider: str | None = None
    can_upgrade: bool
    """Whether a model would let it search by vectors."""
    reindex_required: bool
    """Never: what Vespa lacks is fed to it without being asked."""
    indexed_chunks: int | None = None
    """Absent while Vespa does not have everything yet."""
    schema_version: str | None = None
    """Stands for the schema of Sercha's documents as it is deployed."""
    cluster_info: VespaClusterInfo | None = None
    """Absent without a config server that answers."""
