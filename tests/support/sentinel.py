"""A Sentinel for tests: the same program as the servers that it watches."""

from __future__ import annotations

from pathlib import Path

from tests.support.redis import RedisServer

SERVICE = "mymaster"


class Sentinel(RedisServer):
    """Watches *master* under the name `SERVICE`; alone it may decide."""

    arguments = ("--sentinel",)

    def __init__(self, binary: Path, master: RedisServer, **conf: object) -> None:
        watched = {
            f"sentinel monitor {SERVICE}": f"127.0.0.1 {master.port} 1",
            f"sentinel down_after_milliseconds {SERVICE}": 1000,
            f"sentinel failover_timeout {SERVICE}": 5000,
        }
        if master.password:
            watched[f"sentinel auth_pass {SERVICE}"] = master.password
        super().__init__(binary, **{**watched, **conf})

    def master(self) -> int:
        """Return the port of the master that it knows."""
        return int(self.execute("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)[1])

    def replicas(self) -> int:
        """Count the replicas that it may promote."""
        found = self.execute("SENTINEL", "REPLICAS", SERVICE)
        states = [dict(zip(flat[::2], flat[1::2], strict=True)) for flat in found]
        return sum(state["flags"] == "slave" for state in states)
