"""Reindexing: asked for now, begun by the next deployment, and done at once then."""

from __future__ import annotations

import time
from typing import Any

from tests.vespa.deploy_errors import bad_request
from tests.vespa.messages import Properties
from tests.vespa.model import Application


class Reindexing:
    """What was asked for and done, by cluster and document type."""

    def __init__(self) -> None:
        self.is_enabled = True
        self._pending: dict[str, dict[str, tuple[int, float, str]]] = {}
        self._ready: dict[str, dict[str, dict[str, Any]]] = {}

    def ask(self, application: Application, properties: Properties) -> str:
        """Ask for it, and give the message of the answer.

        Raises:
            DeployProblem: a cluster or type does not exist.
        """
        by_cluster = {each.id: sorted(each.document_types) for each in application.content}
        clusters = _listed(properties, "clusterId") or sorted(by_cluster)
        wanted = _listed(properties, "documentType")
        speed = _speed(properties)
        cause = properties.text("cause") or "reindexing for an unknown reason"
        texts: list[str] = []
        for cluster in clusters:
            if cluster not in by_cluster:
                names = ", ".join(sorted(by_cluster))
                raise bad_request(f"No content cluster '{cluster}' in application — only: {names}")
            types = wanted or by_cluster[cluster]
            for name in types:
                if name not in by_cluster[cluster]:
                    listed = ", ".join(by_cluster[cluster])
                    raise bad_request(
                        f"No document type '{name}' in cluster '{cluster}' — only: {listed}"
                    )
                entry = (application.generation + 1, speed, cause)
                self._pending.setdefault(cluster, {})[name] = entry
            if types:
                texts.append(f"[{', '.join(types)}] in '{cluster}'")
        return (
            f"Reindexing document types {', '.join(texts)} of application default.default.default"
        )

    def set_speed(self, properties: Properties) -> str:
        """Change the speed of what is under way."""
        speed = _speed(properties)
        for types in self._ready.values():
            for entry in types.values():
                entry["speed"] = speed
        return f"Set reindexing speed to '{speed}' for all document types"

    def deployed(self) -> None:
        """A deployment begins what was asked for."""
        if not self.is_enabled:
            return
        now = int(time.time() * 1000)
        for cluster, types in self._pending.items():
            for name, (_, speed, cause) in types.items():
                self._ready.setdefault(cluster, {})[name] = {
                    "readyMillis": now,
                    "startedMillis": now,
                    "endedMillis": now,
                    "speed": speed,
                    "progress": 1.0,
                    "cause": cause,
                    "state": "successful",
                }
        self._pending.clear()

    def status(self, application: Application) -> dict[str, Any]:
        """The answer of ``GET .../reindexing``."""
        clusters: dict[str, Any] = {}
        for each in application.content:
            pending = self._pending.get(each.id, {})
            clusters[each.id] = {
                "pending": {name: entry[0] for name, entry in pending.items()},
                "ready": self._ready.get(each.id, {}),
            }
        return {"enabled": self.is_enabled, "clusters": clusters}


def _listed(properties: Properties, name: str) -> list[str]:
    return [each for each in (properties.text(name) or "").split(",") if each]


def _speed(properties: Properties) -> float:
    text = properties.text("speed") or "1"
    try:
        speed = float(text)
    except ValueError:
        speed = -1.0
    if not 0 <= speed <= 10:
        raise bad_request(f"Indexing speed must be in the range [0, 10], but was {text}")
    return speed
