"""A whole deployment for tests: nginx in front of APIs, workers, PostgreSQL and Redis, each a process that can fail.

On the loopback, without privileges, or with each member on a host of its own (a network namespace, as root).
"""

from sercha.testing.cluster.cluster import Cluster, open_cluster
from sercha.testing.cluster.load import Load, LoadReport, Target
from sercha.testing.cluster.member import Member, MemberEnded
from sercha.testing.cluster.network import Network
from sercha.testing.cluster.plan import ClusterPlan

__all__ = [
    "Cluster",
    "ClusterPlan",
    "Load",
    "LoadReport",
    "Member",
    "MemberEnded",
    "Network",
    "Target",
    "open_cluster",
]
