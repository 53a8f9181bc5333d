"""Every process says that it lives, in the registry of nodes."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from uuid import UUID

import structlog
import trio

from sercha.errors import SerchaError
from sercha.services.ports import Node, NodeStore

BEAT_INTERVAL = 10.0
"""Seconds between signs of life."""
LEAVE_TIMEOUT = 2.0

_log = structlog.get_logger()


class NodeRegistrar:
    """Keeps one process in the registry while it runs."""

    def __init__(self, nodes: NodeStore, node_id: UUID, *, role: str, version: str) -> None:
        self._nodes = nodes
        self._node_id = node_id
        self._role = role
        self._version = version

    async def run(self) -> None:
        """Beat until cancelled, then leave (shielded, `LEAVE_TIMEOUT` seconds); errors are logged only."""
        now = datetime.now(UTC)
        node = Node(
            id=self._node_id,
            role=self._role,
            host=platform.node(),
            pid=os.getpid(),
            version=self._version,
            started_at=now,
            seen_at=now,
        )
        try:
            while True:
                try:
                    await self._nodes.beat(node)
                except SerchaError as error:
                    _log.warning("node.beat_failed", error=error.message)
                await trio.sleep(BEAT_INTERVAL)
        finally:
            with trio.move_on_after(LEAVE_TIMEOUT, shield=True):
                await self._leave()

    async def _leave(self) -> None:
        try:
            await self._nodes.leave(self._node_id)
        except SerchaError as error:
            _log.warning("node.leave_failed", error=error.message)
